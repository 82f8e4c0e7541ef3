"""The real `envol` command, in this process or in one of its own, on small real projects."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envol.cli.app import start

ENVOL = str(Path(sys.executable).with_name("envol"))
CONFIG = """
[project]
name = "machines"
start = "2024-01-01"
end = "2024-01-09"
timezone = "Europe/Paris"
"""
HEADER = """
from __future__ import annotations

import dataframely as dy
import numpy as np
import polars as pl

from envol import Window, model, source, table, value


class Reading(dy.Schema):
    key = dy.String(primary_key=True)
    heat = dy.Float64(min=0)
"""
READINGS = """
@source(every="1d", contract=Reading)
def readings(window: Window) -> pl.DataFrame:
    \"\"\"What was measured.

    More about it.
    \"\"\"
    heat = np.random.default_rng(window.epoch).uniform(0, 1, 40)
    return pl.DataFrame({"key": [f"{window.key}-{row}" for row in range(40)], "heat": heat})
"""
LONE = READINGS
WHOLE = (
    READINGS
    + """
@source(every="1d", delay="1d")
def faults(window: Window) -> pl.DataFrame:
    return readings(window).select("key", failed=pl.col("heat") > 0.6)


@table(lookback={"readings": "1d"})
def features(window: Window, readings: pl.DataFrame) -> pl.DataFrame:
    return readings.filter(pl.col("key").str.starts_with(window.key)).select("key", "heat")


@model(features="features", labels="faults", key="key", target="failed",
       train="4d", every="3d", folds=1, test="1d")
def risk(X: pl.DataFrame, y: pl.Series):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=100).fit(X, y)


@value(model="risk", unit="EUR")
def worth(outcomes: pl.DataFrame, saving: float = 2.0) -> pl.Series:
    return outcomes["failed"].cast(pl.Float64) * saving
"""
)


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Project:
    """A project folder, and `envol` called in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, module: str, config: str = CONFIG) -> Project:
        self.root.mkdir(exist_ok=True)
        (self.root / "envol.toml").write_text(config)
        (self.root / "pipeline.py").write_text(HEADER + module)
        return self

    def envol(self, *words: str, **environment: str) -> Said:
        return envol(*words, folder=self.root, **environment)

    def command(self, *words: str, **environment: str) -> Said:
        return command(*words, folder=self.root, **environment)


def envol(*words: str, folder: Path, **environment: str) -> Said:
    """What `envol WORDS` does in a folder, carried out in this process (a new one takes a second)."""
    out, err, before = io.StringIO(), io.StringIO(), os.environ.copy()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        os.environ.clear()
        os.environ.update(_PLAIN | environment)
        try:
            code = start(words)
        finally:
            os.environ.clear()
            os.environ.update(before)
    return Said(code, out.getvalue(), err.getvalue())


def command(*words: str, folder: Path, **environment: str) -> Said:
    """The installed command `envol WORDS` in a folder, as a process."""
    ended = subprocess.run(
        [ENVOL, *words],
        cwd=folder,
        env=_PLAIN | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Said(ended.returncode, ended.stdout, ended.stderr)


_PLAIN = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "ENVOL_DEBUG")}
