"""What a package holds, that it loads without the project and without Envol, and when it refuses to."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from envol.errors import (
    CorruptArtifactError,
    DataError,
    LockMismatchError,
    NotFoundError,
    ProjectError,
    StorageError,
)
from envol.registry import Package, Registry
from envol.registry.bundle import sources
from envol.registry.package import write_package
from envol.storage import Store
from envol.training import Trained, predict_frame

from .conftest import CUTOFF, NOW, START, trained_with

LINEAGE = {"departures": {"snapshot": 17}, "arrivals": {"snapshot": 18}}

PROJECT = """
import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import helpers
from envol.project.nodes import model


class Chosen(BaseEstimator, TransformerMixin):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return np.column_stack([X["seats"], helpers.filled(X["wind"])])


@model(features="departures", labels="arrivals", key="id", target="late", train="30d", every="10d",
       folds=0, exclude=("day",))
def risk(X: pl.DataFrame, y: pl.Series):
    return make_pipeline(Chosen(), LogisticRegression()).fit(X, y)
"""
HELPERS = "def filled(column):\n    return column.fill_null(0.0)\n"
WRITE = """
import pickle, sys
from datetime import datetime, UTC
from pathlib import Path
from envol.registry.package import write_package
from envol.training import train
sys.path.insert(0, sys.argv[1])
import flights
features, labels, cutoff = pickle.loads(Path(sys.argv[2]).read_bytes())
trained = train(flights.risk.__envol_node__, features, labels, cutoff=cutoff, parameters={})
folder = Path(sys.argv[3])
folder.mkdir()
write_package(folder, trained, fingerprint="f", lineage={}, created=datetime(2013, 3, 1, tzinfo=UTC))
trained.X.write_parquet(folder.with_suffix(".parquet"))
"""
LOAD = """
import importlib, json, sys
import pandas as pd
sys.path.insert(0, sys.argv[1] + "/code")
model = importlib.import_module(sys.argv[2])._load_pyfunc(sys.argv[1])
predicted = model.predict(pd.read_parquet(sys.argv[3]))
assert not {"envol", "flights", "helpers"} & {name.partition(".")[0] for name in sys.modules}
print(json.dumps(predicted["probability"].tolist()))
"""


def package_in(folder: Path, trained: Trained) -> Path:
    folder.mkdir()
    write_package(folder, trained, fingerprint="abc", lineage=LINEAGE, created=NOW)
    return folder


def python(code: str, *arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PATH": "", "PYTHONDONTWRITEBYTECODE": "", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def loaded(registry: Registry, trained: Trained) -> Package:
    registry.register(trained, fingerprint="abc", lineage=LINEAGE, run="r1")
    return registry.load(trained.node.name, 1)


def test_a_loaded_package_predicts_as_the_fitted_model_did(registry: Registry, trained: Trained) -> None:
    package = loaded(registry, trained)
    X = trained.X
    expected = predict_frame(trained.estimator, trained.task, trained.classes, X, "polars")
    assert_frame_equal(package.predict(X), expected)
    assert_frame_equal(package.predict(X.select(sorted(X.columns))), expected)
    rows, problems = package.signature.from_rows(json.loads(X.write_json()))
    assert problems == []
    assert_frame_equal(package.predict(rows, checked=True), expected)
    assert (package.model, package.version, package.task) == ("delay_risk", 1, "binary")
    assert package.classes == [False, True]
    assert package.cutoff == CUTOFF
    assert package.backtest == trained.backtest


def test_a_frame_that_does_not_conform_is_refused(registry: Registry, trained: Trained) -> None:
    package = loaded(registry, trained)
    with pytest.raises(DataError, match="row 1, stops: 2.5 is not a whole number") as caught:
        package.predict(trained.X.head(2).with_columns(stops=pl.Series([1.0, 2.5])))
    assert caught.value.node == "delay_risk"


def test_the_files_of_a_package(tmp_path: Path, trained: Trained) -> None:
    folder = package_in(tmp_path / "package", trained)
    model = yaml.safe_load((folder / "MLmodel").read_text())
    assert json.loads(model["signature"]["inputs"]) == [
        {"type": "any", "name": "stops", "required": False},
        {"type": "long", "name": "seats", "required": True},
        {"type": "double", "name": "wind", "required": False},
        {"type": "string", "name": "carrier", "required": True},
        {"type": "string", "name": "remark", "required": False},
        {"type": "boolean", "name": "night", "required": True},
    ]
    assert json.loads(model["signature"]["outputs"]) == [
        {"type": "boolean", "name": "prediction", "required": True},
        {"type": "double", "name": "probability", "required": True},
    ]
    manifest = json.loads((folder / "envol.json").read_text())
    assert model["model_uuid"] == manifest["identity"]
    assert manifest["lineage"] == LINEAGE
    assert set(manifest["lock"]) == {
        "python", "cloudpickle", "joblib", "numpy", "polars", "scikit-learn", "scipy", "threadpoolctl",
    }  # fmt: skip
    required = (folder / "requirements.txt").read_text().splitlines()
    assert f"scikit-learn=={version('scikit-learn')}" in required
    assert {line.partition("==")[0] for line in required} > {*manifest["lock"], "pandas", "pyarrow"} - {
        "python"
    }
    example = json.loads((folder / "input_example.json").read_text())
    assert example["columns"] == trained.X.columns
    assert len(example["data"]) == 5


def test_the_model_card(tmp_path: Path, trained: Trained) -> None:
    card = (package_in(tmp_path / "package", trained) / "README.md").read_text()
    assert card.startswith("# delay_risk\n\nWhether a flight is late.\n")
    assert "`late` of the table `arrivals`: one of two classes. The classes are `False`, `True`." in card
    assert "| rows | 450 of `departures`, joined to `arrivals` by `id` |" in card
    model, baseline = trained.backtest.model, trained.backtest.baseline
    assert model is not None and baseline is not None
    assert f"| roc_auc | {model['roc_auc']} | {baseline['roc_auc']} |" in card
    assert "| `stops` | Int64 | 10.4% of the rows | 0 to 3 |" in card
    assert '| `remark` | String | 55.3% of the rows | `""`, `"de-iced"`; no others are taken |' in card
    assert "| arrivals.snapshot | `18` |" in card
    assert f"scikit-learn {version('scikit-learn')}" in card
    assert "### Calibration" in card


def test_the_code_in_a_package_is_light() -> None:
    found = sources("envol.registry.loader")
    assert {"envol.registry.loader", "envol.registry.signature", "envol.training.predict"} <= set(found)
    assert not [
        name for name in found if name.startswith(("envol.storage", "envol.pipeline", "envol.serving"))
    ]
    assert sum(map(len, found.values())) < 100_000
    imported = set()
    for text in found.values():
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in statement.names}
            elif isinstance(statement, ast.ImportFrom):
                imported.add((statement.module or "").partition(".")[0])
    assert imported - sys.stdlib_module_names == {"envol", "numpy", "polars"}


def test_a_model_of_the_projects_own_classes_loads_without_project_and_envol(
    tmp_path: Path, flights: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "flights.py").write_text(PROJECT)
    (project / "helpers.py").write_text(HELPERS)
    (tmp_path / "data.pickle").write_bytes(pickle.dumps((*flights, CUTOFF)))
    with ThreadPoolExecutor() as pool:  # two processes, each with its own order of sets
        writing = [
            pool.submit(
                python,
                WRITE,
                project,
                tmp_path / "data.pickle",
                tmp_path / f"package{seed}",
                PYTHONHASHSEED=seed,
            )
            for seed in ("1", "2")
        ]
    assert [each.result() for each in writing] == ["", ""]
    shutil.rmtree(project)
    folder = tmp_path / "package1"
    before = files_of(folder)
    assert files_of(tmp_path / "package2") == before, "the same model gave two different packages"
    loader = yaml.safe_load(before["MLmodel"])["flavors"]["python_function"]["loader_module"]
    answers = json.loads(python(LOAD, folder, loader, tmp_path / "package1.parquet"))
    assert len(answers) == 450
    assert files_of(folder) == before, "loading changed the package"


@pytest.fixture(scope="module")
def flights() -> tuple[pl.DataFrame, pl.DataFrame]:
    from .conftest import tables

    return tables()


class OwnColumns(LogisticRegression):
    """Chooses its columns itself, so that it may be given any frame."""

    def fit(self, X: Any, y: Any) -> Any:
        return super().fit(_numbers(X), y)

    def predict(self, X: Any) -> Any:
        return super().predict(_numbers(X))

    def predict_proba(self, X: Any) -> Any:
        return super().predict_proba(_numbers(X))


def _numbers(X: Any) -> Any:
    return X[["seats", "night"]]


def own_columns(X: pd.DataFrame, y: pd.Series) -> Any:
    return OwnColumns().fit(X, y)


def test_a_model_that_takes_pandas(registry: Registry) -> None:
    trained = trained_with(own_columns)
    package = loaded(registry, trained)
    assert trained.frame_kind == "pandas"
    assert {"pandas", "pyarrow"} <= set(package.manifest["lock"])
    expected = predict_frame(trained.estimator, trained.task, trained.classes, trained.X, "pandas")
    assert_frame_equal(package.predict(trained.X), expected)


def holds_a_lock(X: pl.DataFrame, y: pl.Series) -> Any:
    import threading

    estimator = DummyClassifier(strategy="prior").fit(X, y)
    estimator.lock = threading.Lock()
    return estimator


def refers_to_envol(X: pl.DataFrame, y: pl.Series) -> Any:
    chosen = FunctionTransformer(predict_frame)
    estimator = DummyClassifier(strategy="prior").fit(X, y)
    estimator.step = chosen
    return estimator


class Forgetful(DummyClassifier):
    def __getstate__(self) -> Any:
        return {**super().__getstate__(), "class_prior_": self.class_prior_[::-1]}


def forgets(X: pl.DataFrame, y: pl.Series) -> Any:
    return Forgetful(strategy="prior").fit(X, y)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (holds_a_lock, "the fitted DummyClassifier cannot be pickled: cannot pickle '_thread.lock' object"),
        (refers_to_envol, "the fitted DummyClassifier refers to Envol"),
        (forgets, "the fitted Forgetful predicts differently once it was stored"),
    ],
)
def test_a_model_that_cannot_be_packaged(tmp_path: Path, function: Any, problem: str) -> None:
    trained = trained_with(function)
    with pytest.raises(ProjectError, match=problem.replace("(", r"\(")) as caught:
        package_in(tmp_path / "package", trained)
    assert caught.value.node == function.__name__
    assert caught.value.remedy


def test_an_input_of_a_type_that_no_signature_expresses(tmp_path: Path, trained: Trained) -> None:
    odd = replace(trained, X=trained.X.with_columns(legs=pl.lit([1, 2])))
    with pytest.raises(ProjectError, match=r"the input 'legs' is List\(Int"):
        package_in(tmp_path / "package", odd)


def in_store(store: Store, trained: Trained) -> Path:
    Registry(store, _Never()).register(trained, fingerprint="abc", lineage=LINEAGE, run="r1")
    return store.artifacts.path / store.artifacts.digests()[0]


class _Never:
    """A clock whose time does not matter."""

    def now(self) -> Any:
        return NOW


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_corrupted_package_is_never_unpickled(store: Store, trained: Trained, tmp_path: Path) -> None:
    folder = in_store(store, trained)
    registry = Registry(store, _Never())
    exploded = tmp_path / "exploded"
    pickled = (folder / "model.pkl").read_bytes()

    def refused() -> None:
        with pytest.raises(CorruptArtifactError, match=folder.name) as caught:
            registry.load("delay_risk", 1)
        assert "the package of delay_risk version 1 cannot be used" in caught.value.message
        assert "envol run --node delay_risk --rerun" in (caught.value.remedy or "")
        assert not exploded.exists()

    (folder / "model.pkl").write_bytes(pickle.dumps(Bomb(exploded)))
    refused()
    pickle.loads((folder / "model.pkl").read_bytes())
    assert exploded.exists(), "the test itself: unpickling would have been noticed"
    exploded.unlink()

    flipped = bytearray(pickled)
    flipped[len(flipped) // 2] ^= 1
    (folder / "model.pkl").write_bytes(flipped)
    refused()
    (folder / "model.pkl").unlink()
    refused()
    (folder / "model.pkl").write_bytes(pickled)
    (folder / "added.py").write_text("")
    refused()
    (folder / "added.py").unlink()
    registry.load("delay_risk", 1)


def test_a_package_that_is_gone_is_named(store: Store, trained: Trained) -> None:
    shutil.rmtree(in_store(store, trained))
    with pytest.raises(NotFoundError, match="the package of delay_risk version 1 cannot be used") as caught:
        Registry(store, _Never()).load("delay_risk", 1)
    assert "envol run --node delay_risk --rerun" in (caught.value.remedy or "")


def test_a_corrupted_package_does_not_stand_in_for_a_new_one(store: Store, trained: Trained) -> None:
    folder = in_store(store, trained)
    (folder / "model.pkl").write_bytes(b"")
    registry = Registry(store, _Never())
    registry.register(trained, fingerprint="abc", lineage=LINEAGE, run="r2")
    registry.load("delay_risk", registry.versions("delay_risk")[-1].version)


def test_an_environment_that_breaks_the_lock(store: Store, trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(in_store(store, trained), folder)
    manifest = json.loads((folder / "envol.json").read_text())
    manifest["lock"] |= {"python": "3.10", "scikit-learn": "1.2.0", "no-such-package": "1.0"}
    (folder / "envol.json").write_text(json.dumps(manifest))
    exploded = tmp_path / "exploded"
    (folder / "model.pkl").write_bytes(pickle.dumps(Bomb(exploded)))
    digest = store.artifacts.put(folder)
    with store.metadata.begin() as connection:
        connection.exec_driver_sql("UPDATE model_version SET digest = ?", (digest,))
    with pytest.raises(LockMismatchError) as caught:
        Registry(store, _Never()).load("delay_risk", 1)
    installed = version("scikit-learn")
    assert caught.value.message == (
        "delay_risk version 1 was fitted in another environment: "
        f"python 3.10 is locked, 3.{sys.version_info.minor} is installed; "
        f"scikit-learn 1.2.0 is locked, {installed} is installed; "
        "no-such-package 1.0 is locked, none is installed"
    )
    assert "requirements.txt" in str(caught.value.remedy)
    assert not exploded.exists()


def test_a_package_of_a_newer_envol_is_refused(tmp_path: Path, trained: Trained) -> None:
    from envol.registry.loader import load_scorer

    folder = package_in(tmp_path / "package", trained)
    manifest = json.loads((folder / "envol.json").read_text())
    (folder / "envol.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(StorageError, match="has the format 2, this Envol knows up to 1"):
        load_scorer(folder)


def test_only_what_decides_predictions_makes_the_identity(tmp_path: Path, trained: Trained) -> None:
    created = {"fingerprint": "abc", "created": NOW}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    first = write_package(tmp_path / "a", trained, lineage=LINEAGE, **created)  # type: ignore[arg-type]
    assert first == write_package(tmp_path / "b", trained, lineage={}, **created)  # type: ignore[arg-type]
    earlier = replace(trained, start=START - timedelta(days=1))
    assert first != write_package(tmp_path / "c", earlier, lineage=LINEAGE, **created)  # type: ignore[arg-type]
