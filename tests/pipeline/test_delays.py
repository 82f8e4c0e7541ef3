"""Waits before what failed is tried again, and which windows are left out meanwhile."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from envol.pipeline.conducting.delays import Delay, HeldBack


class Seconds:
    """Seconds of a clock that the test moves on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def read(self) -> float:
        return self.seconds


def test_a_delay_doubles_up_to_the_longest_and_begins_anew_after_a_reset() -> None:
    clock = Seconds()
    delay = Delay(60, 3600, clock.read)
    assert delay.is_over()
    assert [delay.failed() for _ in range(8)] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    clock.seconds = 3599
    assert not delay.is_over()
    clock.seconds = 3600
    assert delay.is_over()
    delay.reset()
    assert delay.failed() == 60


def test_a_node_waits_longer_each_time_and_its_new_windows_do_not() -> None:
    clock = Seconds()
    held = HeldBack(partial(Delay, 10, 40, clock.read))
    assert held.begin() == {}
    held.end({"a": [1], "b": [7]})
    clock.seconds = 5
    assert not held.is_over() and held.begin() == {"a": [1], "b": [7]}
    held.end({"a": [2]})  # a new window of the node fails as well, and waits for the same instant
    assert held.begin() == {"a": [1, 2], "b": [7]}
    held.end({})
    clock.seconds = 10
    assert held.is_over() and held.begin() == {}
    held.end({"a": [1]})  # b has come right
    clock.seconds = 29
    assert held.begin() == {"a": [1]}
    clock.seconds = 30
    assert held.begin() == {}
    assert not held.is_over(), "a run that dies is not tried again at once for this"
    assert held.begin() == {}
    held.end({"a": [1]})
    clock.seconds = 69
    assert held.begin() == {"a": [1]}, "the third failure of a row, though a run died in between"
    held.clear()
    assert held.begin() == {} and not held.is_over()


@given(
    st.lists(
        st.tuples(
            st.integers(0, 50),
            st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 5), min_size=1), max_size=3),
        ),
        max_size=12,
    )
)
def test_what_has_failed_is_left_out_until_its_wait_is_over_and_never_for_longer_than_that(
    rounds: list[tuple[int, dict[str, list[int]]]],
) -> None:
    clock = Seconds()
    held = HeldBack(partial(Delay, 10, 40, clock.read))
    last: dict[str, float] = {}
    for wait, failing in rounds:
        clock.seconds += wait
        left_out = held.begin()
        for node in left_out:
            assert clock.seconds - last[node] < 40
        for node, since in last.items():
            assert node in left_out or clock.seconds - since >= 10
        failed = {
            node: [one for one in windows if one not in left_out.get(node, [])]
            for node, windows in failing.items()
        }
        failed = {node: windows for node, windows in failed.items() if windows}
        held.end(failed)
        last = {
            node: last[node] if node in left_out else clock.seconds for node in set(left_out) | set(failed)
        }
    clock.seconds += 40
    assert held.begin() == {}
