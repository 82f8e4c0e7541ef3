"""Changes of a table's columns: recorded once, told with a diff, and named by the errors they lead to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from small_project import SmallProject

from envol.errors import DataError
from envol.pipeline.checking.schema_changes import changes, lines
from envol.storage import Store

Make = Callable[..., SmallProject]
SOURCE = """
    @source(every="1d")
    def numbers(window: Window) -> pl.DataFrame:
        day, frame = window.start.day, pl.DataFrame({"n": range(30), "x": [1.5] * 30})
        return frame
"""
FRAME = "        return frame"


class Listening:
    """Hears the notes of a run."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def started(self, *_: Any) -> None: ...

    def finished(self, *_: Any) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


def coming(*steps: str) -> str:
    """The source with further steps before it returns."""
    return SOURCE.replace(FRAME, "".join(f"        {step}\n" for step in steps) + FRAME)


def told(small: SmallProject, node: str = "numbers") -> list[tuple[int, list[str]]]:
    """By change of a node the day of January that it holds from, and the diff."""
    with Store(small.store_path) as store:
        found = changes(store.metadata, node)
    days = [((one.window_start - 1704067200) // 86400 + 1, lines(one.columns)) for one in found]
    return sorted(days)


def run(small: SmallProject, now: str, **options: Any) -> list[str]:
    """Run, and return the notes about schemas."""
    listening = Listening()
    small.run(now, observer=listening, **options)
    return [note for note in listening.notes if "schema" in note]


def test_nothing_is_told_of_windows_alike(project: Make) -> None:
    small = project(coming("frame = frame.head(0) if day == 4 else frame"))
    assert run(small, "2024-01-04") == run(small, "2024-01-08") == []
    assert told(small) == []


def test_columns_that_come_and_go_are_told_once(project: Make) -> None:
    small = project(
        coming(
            "if day >= 3: frame = frame.with_columns(tail=pl.lit('a'))",
            "if day >= 5: frame = frame.drop('x')",
        )
    )
    assert run(small, "2024-01-03") == []
    assert run(small, "2024-01-05", workers=1) == [
        "numbers 2024-01-03: the schema has changed: + tail String"
    ]
    assert run(small, "2024-01-06", workers=1) == ["numbers 2024-01-05: the schema has changed: - x Float64"]
    assert run(small, "2024-01-11") == []
    assert told(small) == [(3, ["+ tail String"]), (5, ["- x Float64"])]
    assert run(small, "2024-01-11", nodes=["numbers"], rerun=True) == []


def test_the_order_in_which_windows_are_made_does_not_matter(project: Make) -> None:
    small = project(coming("if day >= 3: frame = frame.drop('x')"))
    run(small, "2024-01-02")
    assert len(run(small, "2024-01-11", workers=8)) == 1
    assert told(small) == [(3, ["- x Float64"])]


@pytest.mark.parametrize("workers", [1, 8])
def test_a_change_of_the_code_is_told_once_as_well(project: Make, workers: int) -> None:
    small = project(SOURCE)
    run(small, "2024-01-06")
    small.edit("return frame", "return frame.with_columns(y=1)")
    assert len(run(small, "2024-01-06", workers=workers)) == 1
    assert told(small) == [(1, ["+ y Int32"])]
    assert run(small, "2024-01-08") == []


def test_a_column_that_becomes_empty_is_told_but_not_one_that_always_was(project: Make) -> None:
    small = project(
        coming(
            "frame = frame.with_columns(never=pl.lit(None, pl.String), few=pl.lit(1))",
            "if day % 2: frame = frame.with_columns(x=pl.lit(None, pl.Float64))",
            "if day == 3: frame = frame.head(5).with_columns(few=pl.lit(None, pl.Int32))",
        )
    )
    run(small, "2024-01-03", workers=1)
    run(small, "2024-01-11", workers=1)
    seen = [line for _, diff in told(small) for line in diff]
    assert sorted(set(seen)) == sorted(seen)
    assert set(seen) <= {"~ x Float64 -> all null", "~ x all null -> Float64"}


def test_a_column_that_comes_and_goes_all_the_time_is_told_a_few_times(project: Make) -> None:
    small = project(coming("if day % 2: frame = frame.drop('x')"))
    for day in range(2, 12):
        run(small, f"2024-01-{day:02}", workers=1)
    assert 1 <= len(told(small)) <= 4


def test_an_error_about_a_dtype_tells_all_that_changed(project: Make) -> None:
    small = project(
        coming(
            "if day >= 3: frame = frame.with_columns(pl.col('n').cast(pl.String)).drop('x')",
            "if day >= 3: frame = frame.with_columns(tail=pl.lit('a'))",
        )
    )
    run(small, "2024-01-03")
    for _ in range(2):
        failures = small.run("2024-01-05").failures
        assert len(failures) == 2
        for failure in failures:
            assert isinstance(failure, DataError)
            assert failure.message == (
                "column 'n' of table 'numbers' is Int64, and would become String; compared with before:"
                " ~ n Int64 -> String, - x Float64, + tail String"
            )
    assert told(small) == [(3, ["~ n Int64 -> String", "+ tail String", "- x Float64"])]
    small.edit("pl.col('n').cast(pl.String)", "pl.col('n')")
    assert len(run(small, "2024-01-05")) == 1
    assert (3, ["+ tail String", "- x Float64"]) in told(small)
    assert len(told(small)) == 2


CONTRACT = """
    class Numbers(dy.Schema):
        n = dy.Int64()
        x = dy.Float64(nullable=True)

    @source(every="1d", contract=Numbers)
    def numbers(window: Window) -> pl.DataFrame:
        day, frame = window.start.day, pl.DataFrame({"n": range(30), "x": [1.5] * 30})
        frame = frame.cast({"n": pl.Int16})
        return frame
"""


def test_an_error_about_the_contract_tells_what_changed(project: Make) -> None:
    small = project(CONTRACT)
    run(small, "2024-01-03")
    small.edit("return frame", "return frame if day < 3 else frame.rename({'x': 'y'})")
    failures = small.run("2024-01-04", workers=1).failures
    assert [failure.message for failure in failures] == [
        "column 'x' of the contract Numbers missing; the function returned n, y; compared with before:"
        " - x Float64, + y Float64"
    ]
    assert told(small) == [(3, ["- x Float64", "+ y Float64"])]


def test_an_error_in_the_first_window_compares_with_the_contract(project: Make) -> None:
    small = project(CONTRACT.replace("return frame", "return frame.rename({'x': 'y'})"))
    [failure] = small.run("2024-01-02").failures
    assert failure.message.endswith("compared with the contract: - x Float64, + y Float64")
    assert told(small) == []


def test_what_a_contract_widens_is_no_change(project: Make) -> None:
    small = project(CONTRACT)
    run(small, "2024-01-03")
    small.edit("pl.Int16", "pl.Int32")
    small.edit("[1.5] * 30", "[None] * 3 + [1.5] * 27")
    assert run(small, "2024-01-06") == []


def test_batches_are_compared_as_well(project: Make) -> None:
    small = project(
        """
        @source(every="1d")
        def numbers(window: Window):
            yield pl.DataFrame({"n": [1, 2]})
            yield pl.DataFrame({"n": [3], "late": [window.start.day]}).head(window.start.day // 3)
        """
    )
    small.edit('"late": [window.start.day]}', '"late": [1]}')
    small.edit(".head(window.start.day // 3)", ".select(['n', 'late'][: window.start.day])")
    run(small, "2024-01-02")
    assert run(small, "2024-01-05", workers=1) == ["numbers 2024-01-02: the schema has changed: + late Int64"]
