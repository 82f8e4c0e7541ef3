"""The conductor: windows that fall due, take-over, pause, edits, failures, crashes, stops."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

import pytest
from conducting import HOURS, Conducted, until
from small_project import SmallProject
from sqlalchemy import select

from envol.pipeline import Conductor, Delay, run_lease
from envol.pipeline.backfill import find_backfill, request_backfill
from envol.project import load_project
from envol.project.clock import CLOCK, the_clock
from envol.storage import tables

Make = Callable[..., SmallProject]
Start = Callable[..., Conducted]
EIGHT_CALLS = HOURS.replace(
    'did("hours", window)',
    """call = did("hours", window)
        while not (HERE / f"gate{call // 8}").exists():
            time.sleep(0.02)""",
)
GATED = HOURS.replace(  # the third call and those after it
    'did("hours", window)',
    """call = did("hours", window)
        while call >= 2 and not (HERE / "gate").exists():
            time.sleep(0.02)""",
)


@pytest.fixture
def conducted(project: Make) -> Iterator[Start]:
    """Writes a project with a clock: `conducted(module, now)`; its conductors are killed at the end."""
    made: list[Conducted] = []

    def make(module: str, now: str, config: str = "") -> Conducted:
        made.append(Conducted(project(module, config), now))
        return made[-1]

    yield make
    for one in made:
        one.kill_all()


def test_windows_are_made_when_they_fall_due_and_after_downtime(conducted: Start) -> None:
    place = conducted(HOURS, "01 03:10")
    first = place.start()
    first.hears("run ended", state="done", done=3)
    assert first.hears("idle")["window"] == "2024-01-01T03:00+00:00"
    place.set_clock("01 03:59")
    place.set_clock("01 04:00")
    first.hears("run ended", done=1)
    first.hears("idle")
    place.set_clock("01 02")  # set back: what is made stays made
    assert first.stop() == 0
    place.set_clock("01 09")
    second = place.start()
    second.hears("run ended", done=5)
    second.hears("idle")
    place.set_clock("01 03")
    place.set_clock("01 10")
    second.hears("run ended", done=1)
    assert second.stop() == 0
    assert sorted(place.did()) == [f"01 {hour:02}" for hour in range(10)]
    assert set(place.rows(select(tables.run.c.kind))) == {("due",)}


@pytest.mark.usefixtures("storage")
def test_who_waits_takes_over_from_the_killed_and_no_window_is_done_twice_or_lost(conducted: Start) -> None:
    place = conducted(EIGHT_CALLS, "02 00", "[run]\nworkers = 2\n")
    place.open("gate0")
    conductors = [place.start() for _ in range(4)]
    for calls, gates in ((10, [1]), (18, [2, 3, 4, 5])):
        [active] = until(lambda: [one for one in conductors if one.has_said("active")])
        until(lambda: len(place.did()) == calls, active.told)  # noqa: B023 - the last two wait at a gate
        active.kill()
        conductors.remove(active)
        for gate in gates:
            place.open(f"gate{gate}")
    [active] = until(lambda: [one for one in conductors if one.has_said("active")])
    active.hears("run ended", state="done")
    [waiting] = [one for one in conductors if one is not active]
    assert waiting.has_said("standby") and not waiting.has_said("active")
    assert place.made() == 24 and place.times_done().total() == 24
    assert sorted(place.states()) == ["crashed", "crashed", "done"]
    assert set(place.did()) == {f"01 {hour:02}" for hour in range(24)}
    with place.store() as store:
        assert sorted(store.lake.read("hours")["hour"]) == list(range(24))


def test_a_stopped_conductor_hands_over_at_once_and_keeps_what_was_made(conducted: Start) -> None:
    place = conducted(GATED, "01 04", "[run]\nworkers = 1\n")
    first = place.start()
    until(lambda: len(place.did()) == 3, first.told)
    second = place.start()
    second.hears("standby")
    first.signal(signal.SIGTERM)
    first.hears("stopping")
    place.open("gate")
    assert first.wait() == 0
    first.hears("run ended", state="cancelled", done=3)
    second.hears("active")
    second.hears("run ended", state="done", done=1)
    assert sorted(place.did()) == ["01 00", "01 01", "01 02", "01 03"]


def test_tasks_that_do_not_end_are_killed(conducted: Start) -> None:
    place = conducted(GATED, "01 03", "[conductor]\nstop_timeout = 0.5\n")
    bounded = place.start()
    until(lambda: len(place.did()) == 3, bounded.told)
    assert bounded.stop() == 130
    impatient = place.start()
    until(lambda: len(place.did()) > 3, impatient.told)
    impatient.signal(signal.SIGTERM)
    impatient.hears("stopping")
    impatient.signal(signal.SIGTERM)
    assert impatient.wait() == 130
    left = 3 - place.made()
    place.open("gate")
    last = place.start()
    last.hears("run ended", state="done", done=left)
    assert left >= 1 and place.made() == 3


def test_pause_resume_cancel_and_wake(conducted: Start) -> None:
    place = conducted(GATED, "01 04", "[run]\nworkers = 1\n")
    conductor = place.start()
    with place.store() as store:
        control = place.control(store)
        until(lambda: len(place.did()) == 3, conductor.told)
        control.pause("ann", "a disk is replaced")
        assert conductor.hears("paused")["message"] == "paused by ann: a disk is replaced"
        place.open("gate")
        conductor.hears("run ended", state="cancelled", done=3)
        place.set_clock("01 05")
        paused = control.wishes().paused
        assert paused is not None and (paused.by, paused.reason) == ("ann", "a disk is replaced")
        (place.root / "gate").unlink()
        assert control.resume("ben") and not control.resume("ben")
        conductor.hears("resumed")
        run = conductor.hears("run started", planned=2)["run"]

        assert control.cancel(run, "cem")
        beats = partial(place.rows, select(tables.lease.c.beats).where(tables.lease.c.name == "run"))
        [(before,)] = beats()
        until(lambda: beats()[0][0] > before + 1, conductor.told)  # each looks whether it is cancelled
        place.open("gate")
        ended = conductor.hears("run ended", state="cancelled")
        assert "by cem" in ended["message"] and not control.cancel(run, "cem")
        conductor.hears("idle")
        made = place.made()
        control.wake("dan")
        conductor.hears("woke")
        conductor.hears("idle")
        assert made >= 3 and place.made() == 5 and len(place.did()) == 5


def test_an_edit_is_taken_in_a_broken_one_once_it_is_mended(conducted: Start) -> None:
    place = conducted(HOURS, "01 02")
    conductor = place.start()
    conductor.hears("idle")
    place.project.edit('"hour": [window.start.hour]', '"hour": [window.start.hour')
    assert "pipeline.py" in conductor.hears("broken")["message"]
    place.set_clock("01 03")
    assert place.project.table("hours")["hour"].to_list() == [0, 1], "the old windows stay"
    place.project.edit('"hour": [window.start.hour', '"hour": [window.start.hour * 10]')
    conductor.hears("run ended", state="done", done=3)
    assert place.project.table("hours")["hour"].to_list() == [0, 10, 20]
    (place.root / "envol.toml").write_text("[project]\n")
    conductor.hears("broken")


def test_the_process_ends_where_another_store_is_named(conducted: Start) -> None:
    place = conducted(HOURS, "01 02")
    conductor = place.start()
    conductor.hears("idle")
    toml = place.root / "envol.toml"
    toml.write_text(toml.read_text() + '[storage]\npath = "elsewhere"\n')
    assert conductor.wait() == 1


def test_a_run_by_hand_is_waited_for(conducted: Start) -> None:
    place = conducted(HOURS, "01 02")
    with place.store() as store, run_lease(store.metadata).held():
        conductor = place.start()
        assert str(os.getpid()) in conductor.hears("busy")["message"]
        assert place.did() == []
    conductor.hears("run ended", state="done", done=2)


def test_what_falls_due_goes_before_a_backfill_which_goes_on_after_it(conducted: Start) -> None:
    place = conducted(EIGHT_CALLS, "01 08", "[run]\nworkers = 1\n")
    place.open("gate0")
    conductor = place.start()
    conductor.hears("run ended", state="done", done=8)
    with place.store() as store:
        asked = request_backfill(
            load_project(place.root),
            store,
            place.clock,
            start=datetime(2024, 1, 1, tzinfo=UTC),
            end=datetime(2024, 1, 2, tzinfo=UTC),
            by="ann",
            rerun=True,
        )
        assert asked is not None and asked.total == 8
        until(lambda: len(place.did()) == 9, conductor.told)  # the first of the backfill waits at a gate
        place.set_clock("01 09")
        conductor.hears("run started", planned=8)
        until(lambda: conductor.has_said("yields"), conductor.told)
        place.open("gate1")
        conductor.hears("run ended", state="cancelled", done=1)
        conductor.hears("run ended", state="done", done=1)
        place.open("gate2")
        conductor.hears("run ended", state="done", done=7)
        assert find_backfill(store.metadata, asked.id).state == "done"
        assert place.did()[9] == "01 08"
        again = [*place.did()[8:9], *place.did()[10:]]
        assert sorted(place.did()[:8]) == sorted(again) == [f"01 {hour:02}" for hour in range(8)]


FAILING = (
    HOURS
    + """
    @source(every="1h")
    def shaky(window: Window) -> pl.DataFrame:
        did("shaky", window)
        if window.start.hour == 1 and not (HERE / "mended").exists():
            raise OSError("the server is away")
        return pl.DataFrame({"x": [window.start.hour]})

    @table()
    def both(hours: pl.DataFrame, shaky: pl.DataFrame) -> pl.DataFrame:
        return shaky.join(hours, left_on="x", right_on="hour")
"""
)


def test_what_fails_is_tried_again_later_and_holds_nothing_else_up(
    conducted: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = conducted(FAILING, "01 02")
    monkeypatch.setenv(CLOCK, place.environment[CLOCK])
    caplog.set_level(logging.INFO, "envol")
    clock = _Seconds()

    def idle(times: int) -> None:
        """Wait until the conductor has nothing to do for the so-manieth time."""
        until(lambda: sum(record.message.startswith("next due") for record in caplog.records) == times)

    with place.store() as store:
        conductor = Conductor(
            load_project(place.root), store, the_clock(), delay=partial(Delay, 10.0, 40.0, clock.read)
        )
        at_work = threading.Thread(target=conductor.conduct)
        at_work.start()
        try:
            idle(1)
            assert place.made() == 2 and place.made("both") == 1
            place.set_clock("01 03")
            idle(2)
            assert place.made("both") == 2
            assert place.did("shaky").count("01 01") == 1, "held back while the others went on"
            for tries, wait in ((2, 10), (3, 20)):
                clock.seconds += wait - 1
                time.sleep(1.5)  # longer than it takes to look
                assert place.did("shaky").count("01 01") == tries - 1
                clock.seconds += 1
                idle(tries + 1)
                assert place.did("shaky").count("01 01") == tries
            place.open("mended")
            clock.seconds += 40
            idle(5)
            assert place.made("both") == 3
            assert sorted(place.did("hours")) == ["01 00", "01 01", "01 02"]
        finally:
            conductor.stop()
            at_work.join()


class _Seconds:
    """Seconds of a clock that the test moves on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def read(self) -> float:
        return self.seconds


def test_a_function_that_kills_its_process_fails_by_itself_in_the_end(conducted: Start) -> None:
    place = conducted(
        HOURS
        + """
    import os, signal

    @source(every="1h")
    def deadly(window: Window) -> pl.DataFrame:
        did("deadly", window)
        if window.start.hour == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        return pl.DataFrame({"x": [1]})
""",
        "01 03",
    )
    conductor = place.start()
    for _ in range(2):
        assert "SIGSEGV" in conductor.hears("run crashed")["message"]
    conductor.hears("task failed", node="deadly")
    conductor.hears("run ended", state="failed", failed=1)
    assert place.made() == 3 and place.made("deadly") == 2
    assert sorted(place.states()) == ["crashed", "crashed", "failed"]
    assert set(place.times_done().values()) == {1}


def test_a_model_is_trained_again_when_asked(conducted: Start) -> None:
    place = conducted(
        """
    @source(every="1d")
    def cases(window: Window) -> pl.DataFrame:
        return pl.DataFrame({"id": [f"{window.key} {n}" for n in range(40)], "x": range(40)})

    @source(every="1d")
    def truth(window: Window) -> pl.DataFrame:
        return cases(window).select("id", large=pl.col("x") > 20)

    @model(features="cases", labels="truth", key="id", target="large",
           train="3d", every="30d", folds=1, test="1d", promote="auto")
    def large(X: pl.DataFrame, y: pl.Series):
        from pathlib import Path
        from sklearn.linear_model import LogisticRegression

        if Path(__file__).with_name("too few").exists():
            raise ValueError("too few of one kind")

        return LogisticRegression().fit(X, y)
""",
        "06 00",
    )
    conductor = place.start()
    conductor.hears("idle")
    cutoffs = select(tables.model_version.c.cutoff).order_by(tables.model_version.c.version)
    [(first,)] = place.rows(cutoffs)
    with place.store() as store:
        control = place.control(store)
        control.retrain("large", "monitoring", "it drifts")
        conductor.hears("run ended", state="done", done=1)
        assert control.wishes().retrain == {}
        assert place.rows(cutoffs) == [(first,), (first + 2 * 86400,)]
        place.set_clock("06 01")
        control.retrain("large", "monitoring", "it drifts still")
        assert "newest data already" in conductor.hears("note")["message"]
        control.retrain("lagre", "ann", "a slip")
        assert "no model" in conductor.hears("note")["message"]
        conductor.hears("idle")
        assert control.wishes().retrain == {}
        place.set_clock("07 00")
        conductor.hears("run ended", state="done", done=4)  # and no training

        control.pause("ann")
        place.open("too few")
        place.set_clock("08 00")
        control.retrain("large", "monitoring", "it drifts more")
        control.resume("ann")
        conductor.hears("task failed", node="large")
        conductor.hears("run ended", failed=1)
        conductor.hears("idle")
        assert place.made("large_predictions") == place.made("large_outcomes") == 4, "the champion goes on"
        assert control.wishes().retrain["large"].reason == "it drifts more"
    assert place.rows(select(tables.alias.c.version).where(tables.alias.c.alias == "champion")) == [(2,)]
