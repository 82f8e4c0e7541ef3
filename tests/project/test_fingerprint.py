"""A node's fingerprint changes with what its code does, and with nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from envol.project import Project, load_project

Load = Callable[..., Project]
Write = Callable[..., Path]
MODULE = '''
import dataframely as dy
import functools
import helpers
from functools import partial
from helpers import scaled

LIMIT = 30
NAMES = {"b", "a", "c"}
LATE = pl.col("delay") > 15
RULES = {"late": lambda x: x > 1, "early": lambda x: x < 1}
HALF = partial(scaled, by=0.5)

class Flight(dy.Schema):
    id = dy.Int64(primary_key=True)
    delay = dy.Int64(max=LIMIT)

class Scaler:
    factor = 2

    def __init__(self, by):
        self.by = by

    def scale(self, x):
        return x * self.by * shifted(x)

SCALER = Scaler(3)

def shifted(x):
    return x + 1

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

def clipped(function):
    @functools.wraps(function)
    def wrapper(*given, **named):
        return function(*given, **named).head(9)
    return wrapper

@functools.cache
def cached():
    return 11

@source()
def flights(window: Window) -> pl.DataFrame:
    return pl.DataFrame({"id": [1]})

@table(contract=Flight, lookback={"flights": "1d"}, retries=1, timeout=60)
def late(flights: pl.DataFrame, limit: int = 7) -> pl.DataFrame:
    """Late flights."""
    found = flights.filter(LATE)  # those

    def inner(x):
        """Inner."""
        return x - 100

    return found.filter(pl.col("delay") > LIMIT, pl.col("name").is_in(NAMES))

@table()
def derived(flights: pl.DataFrame, *, top: int = LIMIT) -> pl.DataFrame:
    def inner(x):
        return shifted(x) + helpers.doubled(x)
    return flights.select(inner(1), HALF(2), RULES["late"](3), SCALER.scale(4), even(5), cached())

@table()
@clipped
def wrapped(flights: pl.DataFrame) -> pl.DataFrame:
    from helpers import imported
    return flights.select(imported(1), [x for x in NAMES], scaled(2))

@model(features="flights", labels="late", key="id", target="late", train="9d", every="7d")
def risk(X: pl.DataFrame, y: pl.Series, depth: int = 3):
    return scaled(X)

@value(model="risk", unit="EUR")
def worth(outcomes: pl.DataFrame, saving: float = 2.0) -> pl.Series:
    return outcomes["prediction"] * saving
'''
HELPERS = '''
"""Helpers."""
import deeper

OFFSET = 5

def scaled(x, by=2):
    return x * by + OFFSET

def doubled(x):
    return deeper.twice(x)

def imported(x):
    return x - 3

def unused(x):
    return x
'''
FILES = {"nodes.py": MODULE, "helpers.py": HELPERS, "deeper.py": "def twice(x):\n    return 2 * x\n"}
NAMED = ["nodes"]
Hashes = dict[str, dict[str, str]]
UNCHANGED: Hashes = {}  # the hashes of FILES, the same in every folder and computed once


def hashes(project: Project) -> Hashes:
    return {name: asdict(definition) for name, definition in project.definitions.items()}


def changes(load: Load, *edits: tuple[str, str, str], config: str = "") -> set[str]:
    """What the edits (file, old text, new text) change, as "node.part"."""
    if not UNCHANGED:
        UNCHANGED.update(hashes(load(FILES, modules=NAMED)))
    files = dict(FILES)
    for file, old, new in edits:
        assert files[file].count(old) == 1, f"{old!r} is there {files[file].count(old)} times"
        files[file] = files[file].replace(old, new)
    after = hashes(load(files, config, modules=NAMED))
    return {
        f"{name}.{part}" for name, now in after.items() for part in now if now[part] != UNCHANGED[name][part]
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # those", ""),
        ("  # those", "  # these ones"),
        ('    """Late flights."""\n', ""),
        ('    """Late flights."""\n', '    """Flights that are late."""\n'),
        ('        """Inner."""\n', ""),
        ("flights.filter(LATE)", "flights.filter(\n        LATE,\n    )"),
        ("LIMIT = 30\n", "\n\n# How late is late.\nLIMIT = 30\n"),
        ("retries=1, timeout=60", "retries=9, backoff=2, timeout=1"),
        ("LIMIT = 30\n", "LIMIT = 30\nUNUSED = 4\n"),
        ('NAMES = {"b", "a", "c"}', 'NAMES = {"c", "b", "a"}'),
        ("def shifted(x):\n", "def shifted(x):  # by one\n"),
        ("    id = dy.Int64(primary_key=True)", '    """A flight."""\n    id = dy.Int64(primary_key=True)'),
    ],
)
def test_what_is_no_change(load: Load, old: str, new: str) -> None:
    assert changes(load, ("nodes.py", old, new)) == set()


def test_what_is_no_change_of_a_helper(load: Load) -> None:
    edits = [('"""Helpers."""', '"""Some helpers."""'), ("def unused(x):\n    return x", "def other(): pass")]
    assert changes(load, *(("helpers.py", old, new) for old, new in edits)) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("nodes.py", "flights.filter(LATE)", "flights.filter(~LATE)", {"late"}),
        ("nodes.py", "return x - 100", "return x - 101", {"late"}),
        # Names of local variables are part of the code: they can be seen, as in `locals()` and `pl.select`.
        ("nodes.py", "return x - 100", "return (y := x) - 100", {"late"}),
        ("nodes.py", "limit: int = 7", "limit: int = 8", {"late", "late.parameters"}),
        ("nodes.py", "LIMIT = 30", "LIMIT = 31", {"late", "derived", "late.contract", "derived.parameters"}),
        ("nodes.py", '"b", "a", "c"', '"b", "a"', {"late", "wrapped"}),
        ("nodes.py", 'pl.col("delay") > 15', 'pl.col("delay") > 16', {"late"}),
        ("nodes.py", "x > 1,", "x > 2,", {"derived"}),
        ("nodes.py", "by=0.5", "by=0.6", {"derived"}),
        ("nodes.py", "SCALER = Scaler(3)", "SCALER = Scaler(4)", {"derived"}),
        ("nodes.py", "self.by * shifted", "self.by / shifted", {"derived"}),
        ("nodes.py", "factor = 2", "factor = 3", {"derived"}),
        ("nodes.py", "return x + 1", "return x + 2", {"derived"}),
        ("nodes.py", "return n != 0", "return n > 0", {"derived"}),
        ("nodes.py", "return 11", "return 12", {"derived"}),
        ("nodes.py", "head(9)", "head(8)", {"wrapped"}),
        ("nodes.py", "@table()\n@clipped", "@table()", {"wrapped"}),
        ("nodes.py", "@source()\ndef flights(window: Window)", "@source()\ndef flights(window)", {"flights"}),
        ("nodes.py", "return scaled(X)", "return scaled(X, 3)", {"risk", "risk_predictions"}),
        (
            "helpers.py",
            "return x * by + OFFSET",
            "return x * by",
            {"derived", "wrapped", "risk", "risk_predictions"},
        ),
        ("helpers.py", "OFFSET = 5", "OFFSET = 6", {"derived", "wrapped", "risk", "risk_predictions"}),
        ("helpers.py", "by=2", "by=3", {"derived", "wrapped", "risk", "risk_predictions"}),
        ("helpers.py", "deeper.twice(x)", "deeper.twice(x + 1)", {"derived"}),
        ("helpers.py", "return x - 3", "return x - 4", {"wrapped"}),
        ("deeper.py", "2 * x", "3 * x", {"derived"}),
    ],
)
def test_what_is_a_change_of_code(load: Load, file: str, old: str, new: str, changed: set[str]) -> None:
    expected = {name if "." in name else f"{name}.code" for name in changed}
    assert changes(load, (file, old, new)) == expected


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("primary_key=True", "primary_key=False", {"late.contract"}),
        ('lookback={"flights": "1d"}', 'lookback={"flights": "2d"}', {"late.parameters"}),
        ("contract=Flight, ", "", {"late.contract"}),
        ("@source()\n", '@source(empty="error")\n', {"flights.parameters"}),
        ('train="9d"', 'train="8d"', {"risk.parameters", "risk_predictions.parameters"}),
        ('every="7d")', 'every="7d", promote="manual")', set()),
        ('key="id"', 'key=["id", "x"]',
         {"risk.parameters", "risk_predictions.parameters", "risk_outcomes.parameters"}),
    ],
)  # fmt: skip
def test_what_is_a_change_of_a_setting(load: Load, old: str, new: str, changed: set[str]) -> None:
    assert changes(load, ("nodes.py", old, new)) == changed


@pytest.mark.parametrize(
    ("config", "changed"),
    [
        ("[parameters]\nlimit = 7", set()),
        ("[parameters.late]\nlimit = 8", {"late.parameters"}),
        ("[parameters.risk]\ndepth = 4", {"risk.parameters", "risk_predictions.parameters"}),
        ("[parameters.worth]\nsaving = { low = 1, likely = 2, high = 3 }", set()),
        ("[serve]\nport = 1", set()),
    ],
)
def test_what_is_a_change_of_parameters(load: Load, config: str, changed: set[str]) -> None:
    assert changes(load, config=config) == changed


def test_predictions_follow_the_code_of_their_model(load: Load) -> None:
    found = hashes(load(FILES, modules=NAMED))
    assert found["risk_predictions"] == found["risk"]


def test_fingerprints_are_those_of_every_other_load(write: Write) -> None:
    root = write(FILES, modules=NAMED)
    assert hashes(load_project(root, {})) == hashes(load_project(root, {}))


def test_fingerprints_are_those_of_every_other_process(write: Write) -> None:
    root = write(FILES, modules=NAMED)
    script = (
        "import sys; from pathlib import Path; from dataclasses import asdict; from envol.project import *\n"
        "definitions = load_project(Path(sys.argv[1]), {}).definitions\n"
        "print({name: asdict(definition) for name, definition in definitions.items()})\n"
    )
    own = repr(hashes(load_project(root, {})))
    for seed in ("1", "2"):  # the order of sets depends on it
        told = subprocess.run(
            [sys.executable, "-c", script, str(root)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert told.stdout.strip() == own


def test_a_project_may_be_moved(load: Load) -> None:
    text = (
        "from pathlib import Path\nDATA = Path(__file__).parent / 'data'\n@source()\ndef s(window):\n    DATA"
    )
    assert hashes(load(text, folder="here")) == hashes(load(text, folder="there"))
    assert hashes(load(text, folder="here")) != hashes(load(text.replace("'data'", "'raw'"), folder="there"))


def test_fingerprints_are_of_what_was_imported_not_of_what_is_on_disk_now(load: Load) -> None:
    expected = hashes(load(FILES, modules=NAMED))
    project = load(FILES, modules=NAMED)
    _ = project.graph
    (project.root / "nodes.py").write_text("x = 1\n")
    assert hashes(project) == expected


def test_fingerprints_of_a_project_are_its_own_after_another_was_loaded(load: Load) -> None:
    other = {name: text.replace("30", "40").replace("2 * x", "3 * x") for name, text in FILES.items()}
    expected = hashes(load(FILES, modules=NAMED))
    first = load(FILES, modules=NAMED)
    _ = first.graph
    assert hashes(load(other, modules=NAMED, folder="other")) != expected
    assert hashes(first) == expected


def test_fingerprints_are_the_same_from_every_folder(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's frozen modules have no folder, and must not seem to lie in the current one."""
    root = write(
        """
        from importlib.util import find_spec

        @source()
        def flights(window: Window) -> pl.DataFrame:
            return pl.DataFrame({"found": [find_spec("polars") is not None]})
        """
    )
    monkeypatch.chdir(root)
    inside = load_project().definitions["flights"]
    monkeypatch.chdir(root.parent)
    outside = load_project(root).definitions["flights"]
    assert inside == outside
