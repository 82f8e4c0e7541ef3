"""What the registry says of a version."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from envol.training import Backtest

if TYPE_CHECKING:
    from sqlalchemy import Row


@dataclass(frozen=True)
class Version:
    """One registered version of a model.

    `cutoff` and `train_start` bound what it was trained on, `made_at` is when it was registered, all in UTC.
    `metrics` holds `main` (the name of the metric to judge by), `rows`, `model` and `baseline` (value, low
    and high by metric), `beats_baseline` and `verdict`. `aliases` are those that point to it now.
    """

    model: str
    version: int
    digest: str
    cutoff: datetime
    train_start: datetime
    fingerprint: str
    task: str
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    made_at: datetime
    run: str
    aliases: tuple[str, ...]


def version_of(row: Row[Any], aliases: Sequence[str]) -> Version:
    """A version from its row in the metadata."""
    return Version(
        model=row.model,
        version=row.version,
        digest=row.digest,
        cutoff=datetime.fromtimestamp(row.cutoff, UTC),
        train_start=datetime.fromtimestamp(row.train_start, UTC),
        fingerprint=row.fingerprint,
        task=row.task,
        metrics=json.loads(row.metrics),
        lineage=json.loads(row.lineage),
        made_at=datetime.fromtimestamp(row.made_at, UTC),
        run=row.run,
        aliases=tuple(aliases),
    )


def summary(backtest: Backtest) -> dict[str, Any]:
    """The metrics of a version: those of the backtest without its folds."""
    stored = backtest.to_dict()
    return {
        "main": backtest.model.main if backtest.model else None,
        "rows": backtest.model.rows if backtest.model else 0,
        "model": stored["model"]["values"] if stored["model"] else {},
        "baseline": stored["baseline"]["values"] if stored["baseline"] else {},
        "beats_baseline": backtest.beats_baseline,
        "verdict": backtest.verdict,
    }
