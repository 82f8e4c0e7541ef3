"""Numbers, aliases and their history."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from envol.errors import NotFoundError, UserError
from envol.project.clock import FixedClock
from envol.registry import Registry
from envol.storage import Store
from envol.training import Trained

from .conftest import CUTOFF, NOW, START

MODEL = "delay_risk"
PROCESSES = ("a", "b", "c")
DAY = 86400


@pytest.fixture
def metadata_in(storage: str) -> str:
    return storage


def epoch(days: int) -> int:
    """The instant so many days after the cutoff of version 1."""
    return int(CUTOFF.timestamp()) + days * DAY


def promote(registry: Registry, version: int, alias: str = "champion") -> None:
    registry.promote(MODEL, version, alias=alias, by="ada", reason="better")


def champion(registry: Registry) -> int:
    return registry.get(MODEL, "champion").version


def test_versions_are_numbered_and_carry_what_was_measured(versions: Registry, quick: Trained) -> None:
    found = versions.versions(MODEL)
    assert [version.version for version in found] == [1, 2, 3]
    first = found[0]
    assert first == versions.get(MODEL, 1) == versions.get(MODEL, "1")
    assert (first.cutoff, first.made_at, first.fingerprint, first.run) == (CUTOFF, NOW, "f0", "r1")
    assert first.train_start == START + timedelta(days=10)
    assert (first.task, first.lineage, first.aliases) == ("binary", {"departures": {"snapshot": 0}}, ())
    own = quick.backtest.model
    assert own is not None
    assert first.metrics["main"] == "roc_auc"
    assert first.metrics["model"]["roc_auc"] == own["roc_auc"].to_dict()
    assert first.metrics["beats_baseline"] is True
    assert versions.versions() == found


def test_registering_the_very_same_model_again_gives_its_version(versions: Registry, quick: Trained) -> None:
    again = versions.register(quick, fingerprint="f0", lineage={}, run="r2")
    assert again == versions.get(MODEL, 1)
    other = versions.register(quick, fingerprint="changed", lineage={}, run="r2")
    assert other.version == 4


def test_promote_moves_the_champion_on_record(versions: Registry, clock: FixedClock) -> None:
    before = versions.revision()
    promote(versions, 1)
    assert versions.get(MODEL, "champion").aliases == ("champion",)
    clock.instant = NOW + timedelta(hours=1)
    change = versions.promote(MODEL, 3, by="grace", reason="fewer misses")
    assert (change.version, change.previous, change.by, change.reason) == (3, 1, "grace", "fewer misses")
    assert change.at == NOW + timedelta(hours=1)
    assert champion(versions) == 3
    assert versions.get(MODEL, 1).aliases == ()
    assert [(each.version, each.previous) for each in versions.history(MODEL)] == [(1, None), (3, 1)]
    assert versions.revision() > before


def test_promoting_what_is_the_champion_already_changes_nothing(versions: Registry) -> None:
    promote(versions, 2)
    revision, history = versions.revision(), versions.history(MODEL)
    assert versions.promote(MODEL, 2, by="bob", reason="again") == history[-1]
    assert (versions.revision(), versions.history(MODEL)) == (revision, history)


def test_aliases_are_independent_and_a_version_may_have_several(versions: Registry) -> None:
    promote(versions, 2)
    promote(versions, 2, "challenger")
    assert versions.get(MODEL, 2).aliases == ("challenger", "champion")
    promote(versions, 3, "challenger")
    assert (champion(versions), versions.get(MODEL, "challenger").version) == (2, 3)
    assert [(each.alias, each.version) for each in versions.history(MODEL)] == [
        ("champion", 2),
        ("challenger", 2),
        ("challenger", 3),
    ]


def test_repeated_rollbacks_go_back_step_by_step(versions: Registry) -> None:
    for version in (1, 2, 3):
        promote(versions, version)
    change = versions.rollback(MODEL, by="ada", reason="too many alerts")
    assert (change.version, change.previous, change.reason) == (2, 3, "too many alerts")
    assert versions.rollback(MODEL, by="ada", reason="still").version == 1
    with pytest.raises(NotFoundError, match="delay_risk had no champion before version 1"):
        versions.rollback(MODEL, by="ada", reason="still")
    assert champion(versions) == 1
    promote(versions, 3)
    assert versions.rollback(MODEL, by="ada", reason="again").version == 1
    assert [each.version for each in versions.history(MODEL)] == [1, 2, 3, 2, 1, 3, 1]


def test_a_rollback_after_returning_to_an_old_version_undoes_that(versions: Registry) -> None:
    for version in (1, 2, 3, 1):
        promote(versions, version)
    assert versions.rollback(MODEL, by="ada", reason="not it").version == 3


def test_rollback_without_a_champion(versions: Registry) -> None:
    with pytest.raises(NotFoundError, match="delay_risk has no champion"):
        versions.rollback(MODEL, by="ada", reason="why not")


def test_the_version_to_predict_a_window_with(versions: Registry) -> None:
    assert versions.champion_at_most(MODEL, epoch(30)) is None
    for version in (1, 3, 2):
        promote(versions, version)
    assert versions.champion_at_most(MODEL, epoch(30)) == 2, "the champion, though version 3 is newer"
    assert versions.champion_at_most(MODEL, epoch(10)) == 2
    assert versions.champion_at_most(MODEL, epoch(10) - 1) == 1
    assert versions.champion_at_most(MODEL, epoch(0) - 1) is None
    promote(versions, 3)
    assert versions.champion_at_most(MODEL, epoch(15)) == 2, "the most recent that ever was champion"
    assert versions.champion_at_most("other", epoch(30)) is None


def test_a_good_version_becomes_champion_unless_one_knows_later_data(versions: Registry) -> None:
    def accept(number: int) -> str | None:
        change = versions.accept(versions.get(MODEL, number), by="envol", reason="beats its baseline")
        return None if change is None else change.alias

    by_cutoff = sorted(versions.versions(MODEL), key=lambda version: version.cutoff)
    early, middle, late = (version.version for version in by_cutoff)
    assert accept(middle) == "champion"
    assert accept(early) == "accepted"
    assert versions.get(MODEL, "champion").version == middle
    assert versions.champion_at_most(MODEL, int(by_cutoff[0].cutoff.timestamp())) == early
    assert accept(late) == "champion"
    versions.rollback(MODEL, by="ada", reason="worse in production")
    assert accept(late) is None
    assert versions.get(MODEL, "champion").version == middle


def test_a_challenger_never_predicts_windows(versions: Registry) -> None:
    promote(versions, 3, "challenger")
    assert versions.champion_at_most(MODEL, epoch(30)) is None


def test_what_does_not_exist_is_named_with_what_does(versions: Registry, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no model 'delay_rsk': did you mean 'delay_risk'"):
        versions.get("delay_rsk", 1)
    with pytest.raises(NotFoundError, match="there is no model 'x'; there is delay_risk"):
        versions.history("x")
    with pytest.raises(NotFoundError, match="delay_risk has versions 1, 2, 3; not 7"):
        versions.promote(MODEL, 7, by="ada", reason="typo")
    with pytest.raises(NotFoundError, match="delay_risk has no champion; it has no alias"):
        versions.load(MODEL, "champion")
    promote(versions, 2, "challenger")
    with pytest.raises(NotFoundError, match="delay_risk has no champion; it has the alias challenger"):
        versions.get(MODEL, "champion")
    with Store(tmp_path / "empty") as empty, pytest.raises(NotFoundError, match="none is registered yet"):
        Registry(empty, FixedClock(NOW)).get(MODEL, 1)


@pytest.mark.parametrize("alias", ["", "7", "Champion", "a b"])
def test_an_alias_must_be_a_name(versions: Registry, alias: str) -> None:
    with pytest.raises(UserError, match="is no alias"):
        promote(versions, 1, alias)


def test_nobody_cannot_promote(versions: Registry) -> None:
    with pytest.raises(UserError, match="cannot be promoted by nobody"):
        versions.promote(MODEL, 1, by=" ", reason="")


REGISTER = """
import pickle, sys
from pathlib import Path
from dataclasses import replace
from envol.project.clock import SystemClock
from envol.registry import Registry
from envol.storage import Store
from servers import place
trained = pickle.loads(Path(sys.argv[2]).read_bytes())
with Store(place(Path(sys.argv[1]))) as store:
    registry = Registry(store, SystemClock())
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(3):
        version = registry.register(trained, fingerprint=f"{sys.argv[3]}{number}", lineage={}, run="r")
        registry.promote(version.model, version.version, by=sys.argv[3], reason="newest")
"""


def test_processes_register_and_promote_at_once(store: Store, quick: Trained, tmp_path: Path) -> None:
    import cloudpickle

    # Functions of this test's modules cannot be imported in the other processes.
    bare = replace(quick, node=replace(quick.node, function=len, module="builtins"))
    (tmp_path / "trained").write_bytes(cloudpickle.dumps(bare))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REGISTER, str(store.path), str(tmp_path / "trained"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for name in PROCESSES
    ]
    for process in processes:  # both have imported and opened everything
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outcomes = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outcomes
    registry = Registry(store, FixedClock(NOW))
    versions = registry.versions(MODEL)
    assert [version.version for version in versions] == list(range(1, 10))
    assert {version.fingerprint for version in versions} == {f"{a}{n}" for a in PROCESSES for n in range(3)}
    history = registry.history(MODEL)
    assert len(history) == 9
    assert [each.previous for each in history] == [None, *(each.version for each in history[:-1])]
    assert champion(registry) == history[-1].version
