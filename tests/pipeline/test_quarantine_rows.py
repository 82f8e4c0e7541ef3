"""Laws of quarantined rows: their ids, their texts, and what decisions make of them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from envol.pipeline.batches import Divided
from envol.pipeline.quarantine.applying import EDITED, ByContract, apply, decided
from envol.pipeline.quarantine.decisions import Action, Decision
from envol.pipeline.quarantine.identity import ID, identified, parts_of, row_hashes, row_id
from envol.pipeline.quarantine.texts import parsed, plain_rows, text_frame
from envol.project.contracts import REASON
from envol.project.windows import Calendar, Period
from envol.storage import Spool, Store

DAY = "2024-01-01"
RICH = pl.DataFrame(
    {
        "whole": [2**60, None, -1],
        "float": [float("nan"), float("-inf"), 1e-5],
        "small": pl.Series([0.1, None, 3.0], dtype=pl.Float32),
        "text": ["", 'a,"b\n', None],
        "flag": [True, False, None],
        "day": [date(2024, 2, 29), None, None],
        "clock": [time(1, 2, 3, 456), None, None],
        "naive": [datetime(2024, 1, 1, 1, 2, 3, 4), None, None],
        "fine": pl.Series([1700000000123456789, None, 1], dtype=pl.Int64).cast(pl.Datetime("ns")),
        "paris": pl.Series([datetime(2024, 10, 27, 1, tzinfo=UTC)] * 3).dt.convert_time_zone("Europe/Paris"),
        "coarse": pl.Series([datetime(2024, 1, 1, tzinfo=UTC)] * 3).dt.cast_time_unit("ms"),
        "took": [timedelta(days=1, microseconds=5), None, None],
        "price": pl.Series([Decimal("1.50"), None, Decimal("-2.00")], dtype=pl.Decimal(10, 2)),
        "bytes": [b"\x00\xff", None, b""],
        "list": [[1, None], [], None],
        "struct": [{"x": 1.5, "y": date(2024, 1, 1)}, {"x": None, "y": None}, None],
        "kind": pl.Series(["a", None, "b"], dtype=pl.Categorical),
    }
)
values = st.tuples(
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.floats(),
    st.none() | st.text(),
    st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
    st.none() | st.lists(st.none() | st.integers(-5, 5), max_size=3),
)
SCHEMA: Any = {
    "whole": pl.Int64,
    "float": pl.Float64,
    "text": pl.String,
    "at": pl.Datetime("us"),
    "list": pl.List(pl.Int64),
}


def frame_of(rows: list[tuple]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def hashes(frame: pl.DataFrame) -> list[int]:
    return list(row_hashes(frame))


def test_a_row_has_the_same_id_before_and_after_it_was_stored(tmp_path: Path) -> None:
    window = Calendar("UTC").parse(Period.DAY, DAY)
    with Store(tmp_path) as store:
        store.lake.replace({"rich": RICH, "other": RICH.head(1)}, window, node="rich", fingerprint="x")
        store.lake.replace(
            {"other": RICH.with_columns(more=pl.lit(1)).head(0)}, window, node="rich", fingerprint="x"
        )
        store.lake.replace({"other": RICH.head(2)}, window, node="rich", fingerprint="x")
        assert hashes(store.lake.read("rich")) == hashes(RICH)
        assert hashes(store.lake.read("other")) == hashes(RICH.head(2))


def test_a_row_has_the_same_id_in_every_process() -> None:
    code = (
        "import polars as pl; from envol.pipeline.quarantine.identity import row_hashes;"
        "print(*row_hashes(pl.DataFrame({'b': ['x', 'x', None], 'a': [1.5, 1.5, None]})))"
    )
    said = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in "ab"}
    told = hashes(pl.DataFrame({"a": [1.5, 1.5, None], "b": ["x", "x", None]}))
    assert said == {" ".join(map(str, told)) + "\n"}


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(values, max_size=6))
def test_equal_rows_are_numbered_and_others_differ(rows: list[tuple]) -> None:
    frame = frame_of(rows)
    found = hashes(pl.concat([frame, frame]))
    assert len(set(found)) == 2 * len(rows)
    assert set(hashes(frame)) <= set(found)
    assert hashes(frame.select(reversed(frame.columns)).with_columns(none=pl.lit(None))) == hashes(frame)


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_id_tells_window_and_hash(number: int) -> None:
    for key in (DAY, "2013-01-05T13:00-05:00", "2013-W01"):
        assert parts_of(row_id(key, number)) == (key, number)


@pytest.mark.parametrize(
    "text", ["", "x", "2024-01-01", "2024-01-01/12", "/0123456789abcdef", "2024-01-01/" + "g" * 16]
)
def test_what_is_no_id(text: str) -> None:
    assert parts_of(text) is None


@pytest.mark.parametrize("frame", [RICH, RICH.clear()], ids=["rows", "none"])
def test_every_dtype_comes_back_from_text(frame: pl.DataFrame) -> None:
    rows = json.loads(json.dumps(plain_rows(frame)))
    back, problems = parsed(rows, frame.schema)
    assert problems == {}
    assert_frame_equal(back, frame)
    table = pl.read_csv(text_frame(frame).write_csv().encode(), infer_schema=False)
    assert_frame_equal(parsed(table.to_dicts(), frame.schema)[0], frame)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(values, min_size=1, max_size=5))
def test_rows_come_back_from_json(rows: list[tuple]) -> None:
    frame = frame_of(rows)
    back, problems = parsed(json.loads(json.dumps(plain_rows(frame))), frame.schema)
    assert problems == {}
    assert_frame_equal(back, frame)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("whole", "1.5", "whole: '1.5' is no Int64"),
        ("whole", "9" * 30, "is no Int64"),
        ("float", "1,5", "float: '1,5' is no Float64"),
        ("flag", "maybe", "is no Boolean"),
        ("day", "29.2.2024", "is no Date"),
        ("naive", "2024-01-01T00:00:00+01:00", "is no Datetime(us)"),
        ("paris", "2024-01-01T00:00:00", "is no Datetime(us, Europe/Paris)"),
        ("price", "1.505", "is no Decimal(10, 2)"),
        ("bytes", "xy", "is no Binary"),
        ("list", "[1, 'a']", "is no List(Int64)"),
        ("list", '["a"]', "is no List(Int64)"),
        ("struct", "[]", "is no Struct"),
    ],
)
def test_what_is_no_value_of_a_column(name: str, text: str, told: str) -> None:
    _, problems = parsed([{name: None}, {name: text}], {name: RICH.schema[name]})
    assert list(problems) == [1]
    assert told in problems[1]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("whole", "2.0", 2),
        ("whole", " 3 ", 3),
        ("flag", "TRUE", True),
        ("naive", "2024-01-01", datetime(2024, 1, 1)),
        ("naive", "2024-01-01 10:30", datetime(2024, 1, 1, 10, 30)),
        ("price", "1.5000", Decimal("1.50")),
        ("list", "[1, 2.0]", [1, 2]),
    ],
)
def test_what_programs_write_instead(name: str, text: str, value: Any) -> None:
    back, problems = parsed([{name: text}], {name: RICH.schema[name]})
    assert (problems, back[name].to_list()) == ({}, [value])


class Reading(dy.Schema):
    key = dy.String(primary_key=True)
    heat = dy.Int64(min=0)

    @dy.rule()
    def not_all_hot(cls) -> pl.Expr:
        return (pl.col("heat") < 9).any().over("key") | (pl.col("key") != "d")


readings = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-2, 9)), min_size=1, max_size=8)
verdicts = st.lists(
    st.tuples(
        st.sampled_from([Action.RELEASE, Action.REPLACE, Action.DROP]),
        st.lists(st.integers(0, 7), min_size=1, max_size=3),
        st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-1, 9)), min_size=3, max_size=3),
    ),
    max_size=4,
)


def fresh(rows: list[tuple[str, int]]) -> Divided:
    frame = pl.DataFrame(rows, schema={"key": pl.String, "heat": pl.Int64}, orient="row")
    divided = Divided.of(frame, Reading)
    return Divided(divided.good, identified(divided.broken, DAY))


def decision(identity: str, action: Action, at: float, row: tuple[str, int] | None = None) -> Decision:
    found = parts_of(identity)
    assert found is not None
    text = None if row is None else json.dumps({"key": row[0], "heat": row[1]})
    return Decision("readings", 0, found[1], action, row=text, at=at, by="me", reason="so")


def same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    return one.sort(one.columns).equals(other.sort(one.columns))


@settings(deadline=None, max_examples=80)
@given(rows=readings, steps=verdicts)
def test_making_a_window_again_leads_to_what_decisions_one_by_one_led_to(rows: list, steps: list) -> None:
    state, made = fresh(rows), list[Decision]()
    for at, (action, numbers, edited) in enumerate(steps):
        ids = state.broken[ID].to_list()
        chosen = {ids[number % len(ids)] for number in numbers} if ids else set()
        batch = {
            identity: decision(identity, action, float(at), row if action is Action.REPLACE else None)
            for identity, row in zip(sorted(chosen), edited, strict=False)
        }
        before = state
        applied = apply(state, batch, ByContract(Reading))
        state = applied.rows
        assert applied.done | set(applied.refused) == set(batch)
        assert set(state.broken[ID]) == set(before.broken[ID]) - applied.done
        gained = 0 if action is Action.DROP else len(applied.done)
        assert state.good.height == before.good.height + gained
        made += [one for identity, one in batch.items() if identity in applied.done]
    again = decided(fresh(rows), DAY, made, ByContract(Reading))
    assert isinstance(again.good, pl.DataFrame) and isinstance(state.good, pl.DataFrame)
    assert same(again.good, state.good)
    assert same(again.broken, state.broken)


def test_one_of_two_equal_rows_can_be_dropped() -> None:
    rows = fresh([("a", 1), ("a", 1), ("b", 2)])
    first, second = rows.broken[ID]
    left = decided(rows, DAY, [decision(first, Action.DROP, 1.0)], ByContract(Reading))
    assert left.broken[ID].to_list() == [second]
    done = decided(left, DAY, [decision(second, Action.RELEASE, 2.0)], ByContract(Reading))
    assert isinstance(done.good, pl.DataFrame)
    assert sorted(done.good.rows()) == [("a", 1), ("b", 2)]


def test_an_edited_row_that_no_longer_passes_stays_as_it_came_with_the_reason() -> None:
    [identity] = fresh([("b", -1)]).broken[ID]
    made = [decision(identity, Action.REPLACE, 1.0, ("c", 3))]
    rows = decided(fresh([("c", 5), ("b", -1)]), DAY, made, ByContract(Reading))
    assert rows.broken.select(ID, "key", "heat", REASON).rows() == [
        (identity, "b", -1, f"{EDITED}primary_key")
    ]
    assert isinstance(rows.good, pl.DataFrame)
    assert rows.good.rows() == [("c", 5)]


def test_an_edited_row_must_not_make_others_break_a_rule() -> None:
    class Few(dy.Schema):
        n = dy.Int64(min=0)

        @dy.rule()
        def one_is_nearly_alone(cls) -> pl.Expr:
            return (pl.col("n") != 1) | (pl.len() < 3)

    broken = Divided.of(pl.DataFrame({"n": [-1]}), Few).broken
    rows = Divided(pl.DataFrame({"n": [1, 5]}), identified(broken, DAY))
    [identity] = rows.broken[ID]
    [(_, number)] = [parts_of(identity) or ("", 0)]
    one = Decision("few", 0, number, Action.REPLACE, row='{"n": 7}', at=1.0, by="me", reason="so")
    applied = apply(rows, {identity: one}, ByContract(Few))
    assert applied.done == set()
    assert "other rows of the window break the contract: 1 x one_is" in applied.refused[identity]
    assert applied.rows.good.height == 2


def test_decisions_hold_for_windows_that_are_larger_than_memory(tmp_path: Path) -> None:
    rows = fresh([("a", 1), ("b", 2), ("c", -1), ("d", -2), ("e", -3)])
    assert isinstance(rows.good, pl.DataFrame)
    dropped, released, edited = rows.broken[ID]
    made = [
        decision(dropped, Action.DROP, 1.0),
        decision(released, Action.RELEASE, 1.0),
        decision(edited, Action.REPLACE, 1.0, ("a", 3)),
    ]
    with Spool(tmp_path, memory=0) as spool:
        for row in rows.good.iter_slices(1):
            spool.append(row)
        done = decided(Divided(spool, rows.broken), DAY, made, ByContract(Reading))
        assert done.good is spool
        assert spool.frame().rows() == [("a", 1), ("b", 2), ("d", -2)]
        assert done.broken.select(ID, REASON).rows() == [(edited, f"{EDITED}primary_key")]
        again = [decision(edited, Action.REPLACE, 2.0, ("f", 3))]
        assert decided(done, DAY, again, ByContract(Reading)).broken.is_empty()
        assert spool.height == 4
