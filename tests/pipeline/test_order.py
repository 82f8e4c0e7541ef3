"""The order of tasks: laws that hold for any project and any course of a run."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_project import SmallProject

from envol.pipeline import Plan, Task
from envol.pipeline.order import Order

MODULE = """
    @source(every="1d")
    def a(window: Window) -> pl.DataFrame: ...

    @table(lookback={"a": "3d"})
    def b(a: pl.DataFrame) -> pl.DataFrame: ...

    @table(every="1w")
    def c(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame: ...

    @source(every="1d", delay="2d")
    def y(window: Window) -> pl.DataFrame: ...

    @model(features="b", labels="y", key="n", target="y", train="5d", every="4d", folds=1, test="1d")
    def guess(X: pl.DataFrame, y: pl.Series): ...
"""


@cache
def plan() -> Plan:
    with TemporaryDirectory() as folder:
        return SmallProject(Path(folder) / "project").write(MODULE).plan("2024-02-01")


def needs(task: Task) -> set[tuple[str, int]]:
    found = {
        (name, index)
        for name, first, last in plan().input_slots(task.node, task.index)
        for index in range(first, last)
    }
    if task.node == "guess_predictions":
        start = plan().nodes[task.node].slots.starts[task.index]
        found |= {("guess", int(one)) for one in (plan().nodes["guess"].slots.ends <= start).nonzero()[0]}
    return found


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    horizon=st.sampled_from([1, 2, 7, 1000]),
    newest_first=st.booleans(),
    at_once=st.integers(1, 5),
    failing=st.sets(st.integers(0, 150), max_size=4),
    chooser=st.randoms(use_true_random=False),
)
def test_every_task_comes_once_and_after_what_it_reads(
    horizon: int, newest_first: bool, at_once: int, failing: set[int], chooser
) -> None:
    order = Order(plan(), newest_first=newest_first, horizon=horizon)
    running: list[Task] = []
    ended: dict[tuple[str, int], str] = {}
    taken = 0
    while True:
        while len(running) < at_once and (task := order.take(lambda node: True)) is not None:
            assert all(ended.get(need, "made") == "made" and need in ended for need in needs(task))
            running.append(task)
        for task in order.lost():
            ended[task.node, task.index] = "lost"
        if not running:
            break
        task = running.pop(chooser.randrange(len(running)))
        assert (task.node, task.index) not in ended
        if taken in failing:
            ended[task.node, task.index] = "failed"
            order.fell_through(task)
        else:
            ended[task.node, task.index] = "made"
            order.finished(task)
        taken += 1
        for task in order.lost():
            ended[task.node, task.index] = "lost"
    assert len(ended) == len(plan())
    for (name, index), state in ended.items():
        wanting = any(ended[need] != "made" for need in needs(plan().task(name, index)))
        assert (state == "lost") == wanting


def test_a_node_that_may_not_run_now_holds_no_other_up() -> None:
    order = Order(plan())
    taken = [order.take(lambda node: node.name != "a") for _ in range(3)]
    assert [task.node for task in taken if task] == ["y", "y", "y"]
