"""The flights project as `make demo` runs it: a year of real data, end to end."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"
PATIENCE = 900

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example that the demo has run."""
    folder = tmp_path_factory.mktemp("examples") / "flights"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".envol", "__pycache__"))
    done = command("demo.py", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE
    )


def envol(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = command("-m", "envol.cli", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done


def test_the_demo_tells_what_it_did(flights: Path) -> None:
    said = (flights / "said.txt").read_text()
    overall = re.search(r"2013-07 to 2013-12: AUC (0\.\d+)", said)
    assert overall and 0.74 < float(overall[1]) < 0.79
    assert re.search(r"P10 -?\d", said)
    assert re.search(r"late with probability 0\.\d{3}, logged as [0-9a-f-]{36}", said)
    assert "The service has ended." in said
    assert "\x1b" not in said


def test_the_backtest_of_july_to_december_has_the_known_auc(flights: Path) -> None:
    versions = json.loads(envol("models", "delay_risk", "--json", cwd=flights).stdout)
    text = json.dumps(versions)
    assert '"2014-01-01' in text
    [latest] = json.loads(command("-c", LATEST_BACKTEST, cwd=flights).stdout)
    assert latest["folds"] == 6
    assert latest["first"].startswith("2013-07-01")
    assert 0.74 < latest["auc"] < 0.78
    assert latest["low"] > latest["baseline"]


LATEST_BACKTEST = """
import json
from envol import connect
with connect() as project:
    backtest = project.model("delay_risk", 2).backtest
area = backtest.model["roc_auc"]
print(json.dumps([dict(folds=len(backtest.folds), first=backtest.folds[0].start.isoformat(), auc=area.value,
    low=area.low, baseline=backtest.baseline["roc_auc"].value)]))
"""


def test_a_second_run_has_nothing_to_do(flights: Path) -> None:
    assert json.loads(envol("run", "--json", cwd=flights).stdout)["state"] == "nothing"


def test_one_real_row_is_in_quarantine(flights: Path) -> None:
    rows = json.loads(envol("query", "select * from weather_quarantine", "--json", cwd=flights).stdout)
    [row] = rows if isinstance(rows, list) else rows["rows"]
    assert row["wind_speed"] > 1000
    assert "wind_speed" in row["broken_rule"]


def test_the_notebook_runs(flights: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(flights / "explore.ipynb", as_version=4)
    NotebookClient(notebook, timeout=PATIENCE, resources={"metadata": {"path": str(flights)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/svg+xml" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
