"""Kill -9 at random moments: the next run ends with the same tables as an undisturbed one."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from small_project import SmallProject

Make = Callable[..., SmallProject]
pytestmark = pytest.mark.usefixtures("storage")
KILLS = 6
TABLES = ("sales", "prices", "revenue", "truth", "large_predictions", "large_outcomes", "worth")
MODULE = """
    import pandas as pd

    @source(every="1d")
    def sales(window: Window) -> pl.DataFrame:
        day = window.start.timetuple().tm_yday
        return pl.DataFrame({"id": range(day * 100, day * 100 + 60)}).with_columns(
            amount=(pl.col("id") * 37 % 101).cast(pl.Float64)
        )

    @source(every="1d")
    def prices(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"price": [float(window.start.day)]})

    @table(lookback={"prices": "2d"})
    def revenue(sales: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
        return sales.select("id", "amount", price=pl.lit(prices["price"].mean()))

    @source(every="1d", delay="1d")
    def truth(window: Window) -> pl.DataFrame:
        return sales(window).select("id", large=pl.col("amount") > 60)

    @model(
        features="revenue", labels="truth", key="id", target="large",
        train="6d", every="6d", folds=1, test="2d"
    )
    def large(X: pd.DataFrame, y: pd.Series):
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression().fit(X, y)

    @value(model="large", unit="EUR")
    def worth(outcomes: pl.DataFrame) -> pl.Series:
        return outcomes["probability"] * 10
"""


def test_kill_at_random_moments_then_run_equals_an_undisturbed_run(project: Make) -> None:
    undisturbed = project(MODULE, name="undisturbed")
    assert undisturbed.run("2024-01-16").state == "done"
    wanted = undisturbed.tables(TABLES)
    assert wanted["large_outcomes"].height > 0

    chance = random.Random(2024)
    disturbed = project(MODULE, name="disturbed")
    for _ in range(KILLS):
        process = disturbed.start("2024-01-16")
        disturbed.wait_for_tasks(disturbed.count_tasks() + chance.randint(0, 6), process)
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.random() * 0.1)
        process.kill()
        process.wait()
    assert disturbed.run("2024-01-16").failures == []
    found = disturbed.tables(TABLES)
    for name in TABLES:
        assert found[name].equals(wanted[name]), name
    assert disturbed.plan("2024-01-16").nodes["worth"].done > 0
    assert len(disturbed.plan("2024-01-16")) == 0
    with disturbed.store() as store:
        assert len(store.artifacts.digests()) >= 2
    assert not list(Path(disturbed.store_path).rglob("*.tmp"))
