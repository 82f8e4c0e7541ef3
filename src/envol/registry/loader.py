"""Loads a package and predicts with it.

Packages carry a copy of this file and of what it imports, so that MLflow loads them without Envol.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from envol.errors import DataError, StorageError
from envol.project.nodes import FrameKind, Task
from envol.registry.fields import Field
from envol.registry.lock import check_lock
from envol.registry.signature import Problem, Signature, described
from envol.training.predict import predict_frame

MANIFEST = "envol.json"
MODEL = "model.pkl"
FORMAT = 1


@dataclass(frozen=True)
class Scorer:
    """A fitted model and what it needs to predict."""

    model: str
    signature: Signature
    task: Task
    classes: list[Any] | None
    kind: FrameKind
    estimator: Any

    def predict(self, frame: pl.DataFrame, *, checked: bool = False) -> pl.DataFrame:
        """The predicted columns, a row for each given one.

        Args:
            checked: the frame is one that the signature returned without a problem.

        Raises:
            DataError: the frame does not conform to the signature.
            ProjectError, Failure: as `envol.training.predict_frame`.
        """
        if not checked:
            frame, problems = self.signature.conform(frame)
            refuse(problems, self.model)
        return predict_frame(self.estimator, self.task, self.classes, frame, self.kind, node=self.model)


def refuse(problems: Sequence[Problem], model: str) -> None:
    """Raise the DataError of the problems, if there are any."""
    if problems:
        raise DataError(
            f"the rows do not fit the model's inputs: {described(problems)}",
            node=model,
            remedy="send exactly the model's inputs, of the types in its signature",
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `envol.json` of a package says.

    Raises:
        StorageError: it was written by a newer Envol.
    """
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest["format"] > FORMAT:
        raise StorageError(
            f"the package {folder} has the format {manifest['format']}, this Envol knows up to {FORMAT}",
            remedy="upgrade Envol to the version that wrote it",
        )
    return manifest


def load_scorer(folder: Path, name: str | None = None) -> Scorer:
    """Unpickle a package whose bytes are known to be those that were stored.

    Args:
        name: what to call it in errors; the model's name when left out.

    Raises:
        LockMismatchError: this environment breaks the package's lock; nothing is unpickled then.
    """
    manifest = read_manifest(folder)
    check_lock(manifest["lock"], name or manifest["model"])
    with (folder / MODEL).open("rb") as stream:
        estimator = pickle.load(stream)
    return Scorer(
        model=manifest["model"],
        signature=Signature.from_json(json.dumps(manifest["signature"])),
        task=manifest["task"],
        classes=manifest["classes"],
        kind=manifest["frame_kind"],
        estimator=estimator,
    )


class PyFunc:
    """What MLflow calls: pandas in, pandas out, the same checks and predictions as everywhere."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """The predicted columns as a pandas DataFrame with the index of the input."""
        import pandas as pd

        frame, problems = from_pandas(self.scorer.signature, model_input)
        refuse(problems, self.scorer.model)
        predicted = self.scorer.predict(frame, checked=True)
        columns = {name: predicted[name].to_list() for name in predicted.columns}
        return pd.DataFrame(columns, index=model_input.index)


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> PyFunc:
    """MLflow's entry point."""
    return PyFunc(load_scorer(Path(path)))


def from_pandas(signature: Signature, data: Any) -> tuple[pl.DataFrame, list[Problem]]:
    """A pandas frame as the signature says: nullable integers and missing values are kept what they are.

    Columns of Python objects, and dates as text, are converted value by value as JSON is.
    """
    loose = [field for field in signature.fields if field.name in data.columns and _is_loose(field, data)]
    names = [field.name for field in loose]
    values = [map(_as_json, data[name].to_list()) for name in names]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    converted, problems = Signature(tuple(loose)).from_rows(rows)
    if problems:
        return converted, problems
    columns = [
        converted[name] if name in names else pl.Series(name, pl.from_pandas(data[name], nan_to_null=True))
        for name in data.columns
    ]
    return signature.conform(pl.DataFrame(columns))


def _is_loose(field: Field, data: Any) -> bool:
    dtype = data[field.name].dtype
    texts = str(dtype) in ("str", "string")
    return str(dtype) == "object" or (texts and field.dtype.startswith("Date"))


def _as_json(value: Any) -> Any:
    """A Python, NumPy or pandas value as JSON would have it; the kinds of missing value are all None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if str(value) in ("<NA>", "NaT") or value != value:
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value
