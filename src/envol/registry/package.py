"""A package: a fitted model with all that is needed to trust it and to run it elsewhere.

It is a folder that MLflow reads as a model: `model.pkl`, `envol.json` (signature, backtest, lineage, lock),
a model card, and the code that predicts with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from envol.errors import EnvolError, ProjectError
from envol.project.nodes import Task
from envol.registry import loader
from envol.registry.bundle import bundle
from envol.registry.card import card_text
from envol.registry.fields import UnsupportedTypeError
from envol.registry.loader import FORMAT, MANIFEST, MODEL, Scorer
from envol.registry.lock import make_lock
from envol.registry.mlmodel import CODE, EXAMPLE_ROWS, write_mlflow_files
from envol.registry.pickling import distributions, dump, required
from envol.registry.signature import Signature
from envol.training import Backtest, Trained, predict_frame

CARD = "README.md"
MLFLOW_NEEDS = ("pandas", "pyarrow")
_TRIED_ROWS = 100


@dataclass(frozen=True)
class Package:
    """A loaded version of a model."""

    version: int
    digest: str
    path: Path
    scorer: Scorer

    @property
    def model(self) -> str:
        return self.scorer.model

    @property
    def signature(self) -> Signature:
        return self.scorer.signature

    @property
    def task(self) -> Task:
        return self.scorer.task

    @property
    def classes(self) -> list[Any] | None:
        """Sorted labels; None for regression."""
        return self.scorer.classes

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What `envol.json` says: cutoff, start, rows, fingerprint, lineage, lock and more."""
        return loader.read_manifest(self.path)

    @cached_property
    def cutoff(self) -> datetime:
        """The instant up to which it was trained, in UTC."""
        return datetime.fromisoformat(self.manifest["cutoff"])

    @cached_property
    def backtest(self) -> Backtest:
        return Backtest.from_dict(self.manifest["backtest"])

    @cached_property
    def card(self) -> str:
        """The model card in Markdown."""
        return (self.path / CARD).read_text(encoding="utf-8")

    def predict(self, frame: pl.DataFrame, *, checked: bool = False) -> pl.DataFrame:
        """The predicted columns, a row for each given one.

        Args:
            frame: exactly the inputs of the signature, in any order; see `Signature.conform`.
            checked: the frame is one that the signature returned without a problem.

        Raises:
            DataError: the frame does not conform to the signature.
            ProjectError, Failure: the estimator answers wrongly or raises.
        """
        return self.scorer.predict(frame, checked=checked)


def write_package(
    folder: Path, trained: Trained, *, fingerprint: str, lineage: Mapping[str, Any], created: datetime
) -> str:
    """Write the package of a trained model into an empty folder; equal models differ only in `created`.

    Returns:
        The identity of its content: 32 hexadecimal digits over model, signature, lock and fingerprint.

    Raises:
        ProjectError: the model cannot be packaged, or predicts differently once it is loaded again.
    """
    node = trained.node
    try:
        return _write(folder, trained, fingerprint, lineage, created)
    except UnsupportedTypeError as error:
        raise ProjectError(
            str(error), node=node.name, remedy=f"cast it in {node.features}, or name it in exclude"
        ) from None
    except EnvolError as error:
        raise error.located(node=node.name) from error.__cause__


def _write(
    folder: Path, trained: Trained, fingerprint: str, lineage: Mapping[str, Any], created: datetime
) -> str:
    node = trained.node
    signature = Signature.infer(trained.X, closed_categories=node.unknown_categories == "refuse")
    payload, modules = dump(trained.estimator, node.module)
    needed = distributions(modules, trained.frame_kind)
    manifest = {
        "format": FORMAT,
        "model": node.name,
        "task": trained.task,
        "classes": trained.classes,
        "frame_kind": trained.frame_kind,
        "signature": json.loads(signature.to_json()),
        "cutoff": trained.cutoff.astimezone(UTC).isoformat(),
        "start": trained.start.astimezone(UTC).isoformat(),
        "fingerprint": fingerprint,
        "lock": make_lock(needed),
    }
    identity = identity_of(manifest, payload)
    manifest |= {
        "identity": identity,
        "created": created.astimezone(UTC).isoformat(),
        "rows": len(trained.y),
        "lineage": dict(lineage),
        "backtest": trained.backtest.to_dict(),
    }
    (folder / MODEL).write_bytes(payload)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
    card = card_text(trained, signature, fingerprint=fingerprint, lineage=lineage, lock=manifest["lock"])
    (folder / CARD).write_text(card, encoding="utf-8")
    scorer = loader.load_scorer(folder)
    _refuse_changed(trained, scorer)
    write_mlflow_files(
        folder,
        scorer,
        trained.X.head(EXAMPLE_ROWS),
        loader=bundle(loader.__name__, folder / CODE),
        requirements=[f"{name}=={version(name)}" for name in required([*needed, *MLFLOW_NEEDS])],
        identity=identity,
        created=created,
    )
    return identity


def identity_of(manifest: Mapping[str, Any], payload: bytes) -> str:
    """32 hexadecimal digits over what decides the predictions."""
    content = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
    content.update(hashlib.sha256(payload).digest())
    return content.hexdigest()[:32]


def _refuse_changed(trained: Trained, scorer: Scorer) -> None:
    X = trained.X.head(_TRIED_ROWS)
    fitted = predict_frame(
        trained.estimator, trained.task, trained.classes, X, trained.frame_kind, node=trained.node.name
    )
    if not scorer.predict(X).equals(fitted):
        raise ProjectError(
            f"the fitted {type(trained.estimator).__name__} predicts differently once it was stored",
            remedy="keep all that it needs in its attributes, and predict without random numbers",
        )
