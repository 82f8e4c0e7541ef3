"""Whatever happened before, a run ends with the tables that a first run would have made."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import Postgres
from small_project import SmallProject

SOURCE = """
    @source(every="{every}"{delay})
    def t0(window: Window, seed: int = 1) -> pl.DataFrame:
        hours = int(window.start.timestamp()) // 3600
        return pl.DataFrame({{"n": [hours % 97 * seed, hours % 89]}})
"""
TABLE = """
    @table({every}lookback={{"t{before}": "{lookback}"}})
    def t{number}(t{before}: pl.DataFrame, seed: int = 1) -> pl.DataFrame:
        return t{before}.select(n=pl.col("n").sum() % 1009 + seed, m=pl.len().cast(pl.Int64))
"""


@st.composite
def modules(draw: st.DrawFn) -> tuple[str, int]:
    """A chain of tables over one source, each with a lookback, the last perhaps with longer windows."""
    length = draw(st.integers(1, 3))
    every = draw(st.sampled_from(["1d", "1w"]))
    delay = draw(st.sampled_from(["", ', delay="6h"', ', delay="2d"']))
    module = SOURCE.format(every=every, delay=delay)
    for number in range(1, length + 1):
        longer = 'every="1w", ' if number == length and draw(st.booleans()) else ""
        lookback = draw(st.sampled_from(["6h", "1d", "3d", "1w"]))
        module += TABLE.format(number=number, before=number - 1, lookback=lookback, every=longer)
    return module, length


HISTORIES = {
    "chain": modules(),
    "days": st.lists(st.integers(3, 18), min_size=1, max_size=3),
    "edits": st.lists(st.tuples(st.integers(0, 3), st.integers(2, 9)), max_size=2),
}


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(**HISTORIES)
def test_history_leaves_no_trace(
    chain: tuple[str, int], days: list[int], edits: list[tuple[int, int]]
) -> None:
    with TemporaryDirectory() as folder:
        compare(Path(folder), None, chain, days, edits)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(**HISTORIES)
def test_history_on_postgresql_ends_as_a_first_run_on_sqlite(
    postgres: Postgres, made: str, chain: tuple[str, int], days: list[int], edits: list[tuple[int, int]]
) -> None:
    with TemporaryDirectory() as folder, postgres.copy_of(made) as url:
        compare(Path(folder), url, chain, days, edits)


def compare(
    folder: Path, url: str | None, chain: tuple[str, int], days: list[int], edits: list[tuple[int, int]]
) -> None:
    """A project that lived on, its store at the url, has the tables of a fresh one."""
    module, length = chain
    place = f'[storage]\nurl = "{url}"\n' if url else ""
    lived = SmallProject(folder / "project").write(module, place)
    for day in sorted(days):
        lived.run(f"2024-01-{day:02}")
    parameters = ""
    for node, seed in edits:
        if node <= length:
            parameters = f"[parameters.t{node}]\nseed = {seed}\n"
            lived.write(module, place + parameters)
            lived.run("2024-01-10")
    last = f"2024-01-{max(*days, 10):02}"
    assert lived.run(last).failures == []
    assert len(lived.plan(last)) == 0
    fresh = SmallProject(folder / "fresh").write(module, parameters)
    fresh.run(last)
    plan = fresh.plan(last)
    for name, node in plan.nodes.items():
        if len(node.slots):
            assert lived.table(name).equals(fresh.table(name)), name
