"""The project's functions are plain functions: tests call them with frames. Run: pytest"""

from __future__ import annotations

import polars as pl
from pumps import Condition, Reading, conditions, inspection, readings

from envol.project.windows import Calendar, Period


def test_readings_become_conditions() -> None:
    first, second = (Calendar("UTC").parse(Period.DAY, day) for day in ("2025-01-14", "2025-01-15"))
    frames = [Reading.validate(readings(window)) for window in (first, second)]
    made = Condition.validate(conditions(second, pl.concat(frames)))
    assert made["reading_id"].to_list() == frames[1]["reading_id"].to_list()
    assert made["vibration_rise"].to_list() == (frames[1]["vibration"] - frames[0]["vibration"]).to_list()
    assert conditions(first, frames[0])["vibration_rise"].null_count() == made.height


def test_an_inspection_costs_and_one_in_time_saves() -> None:
    outcomes = pl.DataFrame({"probability": [0.9, 0.9, 0.0], "failed": [True, False, True]})
    assert inspection(outcomes, saving_per_hit=1000.0, cost_per_inspection=100.0).to_list() == [900, -100, 0]
