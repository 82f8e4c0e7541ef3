"""The real MLflow, in an environment of its own, loads a package and gets the same predictions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest

from envol.registry import Package, Registry
from envol.training import Trained

REPOSITORY = Path(__file__).parents[2]
PROBE = Path(__file__).with_name("mlflow_probe.py")
ENVIRONMENT = "ENVOL_MLFLOW_PYTHON"


def mlflow_python() -> Path:
    """The interpreter of the environment that requirements/mlflow.txt describes."""
    path = Path(os.environ.get(ENVIRONMENT, REPOSITORY / ".venv-mlflow" / "bin" / "python"))
    if not path.is_file():
        pytest.fail(
            f"there is no Python with MLflow at {path}: make an environment of requirements/mlflow.txt "
            f"there, or name one in {ENVIRONMENT}"
        )
    return path


def with_broken_lock(package: Package, folder: Path) -> Path:
    shutil.copytree(package.path, folder)
    manifest = json.loads((folder / "envol.json").read_text())
    manifest["lock"]["numpy"] = "1.0.0"
    (folder / "envol.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.slow
def test_mlflow_loads_a_package_and_predicts_the_same(
    registry: Registry, trained: Trained, tmp_path: Path
) -> None:
    registry.register(trained, fingerprint="abc", lineage={}, run="r1")
    package = registry.load("delay_risk", 1)
    rows = trained.X.head(60)
    assert all(rows[name].null_count() for name in ("stops", "wind", "remark"))
    rows.write_parquet(tmp_path / "rows.parquet")
    rows.write_json(tmp_path / "rows.json")
    done = subprocess.run(
        [
            str(mlflow_python()),
            str(PROBE),
            str(package.path),
            str(tmp_path / "rows.parquet"),
            str(with_broken_lock(package, tmp_path / "broken")),
        ],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    expected = package.predict(rows).to_dict(as_series=False)
    for form, answers in found["answers"].items():
        assert answers == expected, form
    complete = rows.filter(pl.col("stops").is_not_null())
    assert found["complete"] == package.predict(complete).to_dict(as_series=False)
    bare = rows.with_columns(stops=None, remark=None)
    assert found["without optional"] == package.predict(bare).to_dict(as_series=False)
    assert found["example"] == package.predict(rows.head(5)).to_dict(as_series=False)
    assert found["index kept"]

    assert found["inputs"] == [
        {"type": "any", "name": "stops", "required": False},
        {"type": "long", "name": "seats", "required": True},
        {"type": "double", "name": "wind", "required": False},
        {"type": "string", "name": "carrier", "required": True},
        {"type": "string", "name": "remark", "required": False},
        {"type": "boolean", "name": "night", "required": True},
    ]
    assert [(each["name"], each["type"]) for each in found["outputs"]] == [
        ("prediction", "boolean"),
        ("probability", "double"),
    ]
    assert found["identity"] == package.manifest["identity"]

    refused = found["refused"]
    assert refused["missing column"].startswith("MlflowException: ")
    assert "missing inputs ['seats']" in refused["missing column"]
    assert "row 0, stops: 2.5 is not a whole number" in refused["fraction"]
    assert "stops: the column is String, not Int64" in refused["text"]
    assert (
        'row 0, carrier: "ZZ" was never seen in training; known are "AA", "B6", "UA"' in refused["category"]
    )
    assert "row 0, carrier: is missing, and it never was in training" in refused["missing value"]
    assert f"row 0, seats: {2**40} is out of the range of Int32" in refused["too large"]
    assert found["broken lock"].startswith("LockMismatchError: delay_risk was fitted in another environment")

    registry.load("delay_risk", 1)  # MLflow has left the stored files as they were
