"""Backtests as tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envol.cli.output import metric, table

if TYPE_CHECKING:
    from envol.cli.output import Table
    from envol.registry import Version
    from envol.storage import Store


def package_folder(store: Store, version: Version) -> Path:
    """The verified package of a version, as a folder."""
    from envol.project.clock import SystemClock
    from envol.registry import Registry

    return Registry(store, SystemClock()).folder(version)


def stored_backtest(store: Store, version: Version) -> dict[str, Any]:
    """The backtest of a version with its folds, as JSON, read from its package without unpickling it."""
    from envol.registry.loader import read_manifest

    found: dict[str, Any] = read_manifest(package_folder(store, version))["backtest"]
    return found


def backtest_table(backtest: Mapping[str, Any]) -> Table:
    """Fold by fold what the model was worth beside its baseline; all folds together in the last row."""
    from envol.training.metrics import MAIN

    name = MAIN[backtest["task"]]
    spans = ("trained on", "evaluated on")
    rows = table(
        "fold",
        *spans,
        "rows",
        name,
        "baseline",
        right=("rows",),
        wrap=spans,
        spare=("trained on", "baseline"),
    )
    for fold in backtest["folds"]:
        rows.add_row(
            str(fold["number"]),
            _span(fold["train_start"], fold["start"]),
            _span(fold["start"], fold["end"]),
            f"{fold['rows']:,}",
            metric(fold["model"]["values"].get(name)),
            metric(fold["baseline"]["values"].get(name)),
        )
    if backtest["model"]:
        rows.add_row(
            "all",
            "",
            "",
            f"{backtest['model']['rows']:,}",
            metric(backtest["model"]["values"].get(name)),
            metric(backtest["baseline"]["values"].get(name)),
            style="bold",
        )
    return rows


def _span(start: str, end: str) -> str:
    """Two ISO instants that bound [start, end), as people write the days between."""
    from envol.training.split import span_text

    text = span_text(datetime.fromisoformat(start), datetime.fromisoformat(end))
    return text.replace("..", " to ")  # can be broken where the screen is narrow
