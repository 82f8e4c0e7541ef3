"""The model card: what a package predicts, from what, how well, and where that ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from envol.registry.fields import Field, shown
from envol.registry.lock import PYTHON
from envol.registry.signature import Signature
from envol.training import Backtest, Metrics, Trained

SHOWN_CATEGORIES = 10
_TASKS = {"binary": "one of two classes", "multiclass": "one of several classes", "regression": "a number"}


def card_text(
    trained: Trained,
    signature: Signature,
    *,
    fingerprint: str,
    lineage: Mapping[str, Any],
    lock: Mapping[str, str],
) -> str:
    """The card in Markdown."""
    sections = [
        [f"# {trained.node.name}", trained.node.doc],
        ["## What it predicts", *_predicts(trained)],
        ["## Trained on", *_trained_on(trained)],
        ["## Backtest", *_backtest(trained.backtest)],
        ["## Inputs", _inputs(signature, trained.X)],
        ["## Lineage", *_lineage(lineage, fingerprint)],
        ["## Environment", _environment(lock)],
        ["## Limits", _limits(trained, signature)],
    ]
    return "\n\n".join(part for section in sections for part in section if part) + "\n"


def _predicts(trained: Trained) -> list[str]:
    node = trained.node
    target = f"`{node.target}` of the table `{node.labels}`: {_TASKS[trained.task]}."
    if trained.classes is None:
        return [target]
    labels = ", ".join(f"`{label}`" for label in trained.classes)
    positive = f" `probability` is that of `{trained.classes[1]}`." if trained.task == "binary" else ""
    return [f"{target} The classes are {labels}.{positive}"]


def _trained_on(trained: Trained) -> list[str]:
    node = trained.node
    rows = [
        ("windows", f"from {trained.start.isoformat()} up to {trained.cutoff.isoformat()}, not included"),
        ("rows", f"{len(trained.y):,} of `{node.features}`, joined to `{node.labels}` by {_code(node.key)}"),
        ("rows without a label", f"{trained.unlabelled:,}, not used"),
        ("rows with a null label", f"{trained.null_targets:,}, not used"),
        ("seed", str(node.seed)),
        ("estimator", f"`{type(trained.estimator).__module__}.{type(trained.estimator).__qualname__}`"),
    ]
    if trained.classes is not None:
        counts = [f"`{label}` {int((trained.y == label).sum()):,}" for label in trained.classes]
        rows.insert(2, ("labels", ", ".join(counts)))
    return [_table(("", ""), rows)]


def _backtest(backtest: Backtest) -> list[str]:
    verdict = f"{'Beats' if backtest.beats_baseline else 'Does not beat'} the baseline: {backtest.verdict}."
    parts = [verdict]
    if backtest.model and backtest.baseline:
        parts.append(
            "Trained on earlier windows and evaluated on later ones, number of times: "
            f"{len(backtest.folds)}, rows: {backtest.model.rows:,}; intervals are 90 % bootstrap intervals."
        )
        both = backtest.model.values.items()
        parts.append(
            _table(
                ("metric", "model", "baseline"),
                [(name, str(metric), str(backtest.baseline.values[name])) for name, metric in both],
            )
        )
    if backtest.folds:
        main = backtest.folds[0].model.main
        folds = [
            (
                f"{fold.start.isoformat()} to {fold.end.isoformat()}",
                f"{fold.train_rows:,}",
                f"{fold.rows:,}",
                str(fold.model[main]),
                str(fold.baseline[main]),
            )
            for fold in backtest.folds
        ]
        parts.append(_table(("evaluated on", "rows trained on", "rows", f"{main}, model", "baseline"), folds))
    parts += [
        f"Left out: {s.start.isoformat()} to {s.end.isoformat()}, {s.reason}." for s in backtest.skipped
    ]
    return [*parts, *_calibration(backtest.model)]


def _calibration(metrics: Metrics | None) -> list[str]:
    if metrics is None or not metrics.calibration:
        return []
    rows = [(f"{b.predicted:.4g}", f"{b.observed:.4g}", f"{b.count:,}") for b in metrics.calibration]
    return ["### Calibration", _table(("predicted, mean", "observed", "rows"), rows)]


def _inputs(signature: Signature, X: pl.DataFrame) -> str:
    rows = [
        (
            f"`{field.name}`",
            field.dtype,
            f"{_missing(X[field.name]):.1%} of the rows" if field.nullable else "never",
            _range(field, X[field.name]),
        )
        for field in signature.fields
    ]
    return _table(("input", "type", "missing", "seen in training"), rows)


def _missing(column: pl.Series) -> float:
    nans = int(column.is_nan().sum()) if column.dtype.is_float() else 0
    return (column.null_count() + nans) / len(column)


def _range(field: Field, column: pl.Series) -> str:
    if field.categories is not None:
        first = _code(map(shown, field.categories[:SHOWN_CATEGORIES]))
        more = len(field.categories) - SHOWN_CATEGORIES
        return f"{first}{f' and {more} more' if more > 0 else ''}; no others are taken"
    known = column.drop_nulls()
    if column.dtype.is_float():
        known = known.drop_nans()
    if known.is_empty():
        return "nothing"
    if column.dtype in (pl.String, pl.Categorical):
        return f"{known.n_unique():,} texts; others are taken"
    if column.dtype == pl.Boolean:
        return f"true in {known.sum() / len(known):.1%}"
    low: Any = known.min()
    high: Any = known.max()
    return f"{low:.6g} to {high:.6g}" if column.dtype.is_float() else f"{low!s} to {high!s}"


def _lineage(lineage: Mapping[str, Any], fingerprint: str) -> list[str]:
    return [_table(("", ""), [("fingerprint", f"`{fingerprint}`"), *_flat(lineage)])]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", f"`{value}`"


def _environment(lock: Mapping[str, str]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in lock.items() if name != PYTHON)
    return f"Python {lock[PYTHON]}, {versions}. It refuses to load with any other version of these."


def _limits(trained: Trained, signature: Signature) -> str:
    closed = any(field.categories is not None for field in signature.fields)
    limits = [
        f"It knows nothing of what happened from {trained.cutoff.isoformat()} on.",
        "The backtest says how well it did on those windows; it does not promise that the next are alike.",
        "Values outside the ranges above are predicted without a warning.",
    ]
    if closed:
        limits.append("A row with a text that was never seen in training is refused.")
    if not trained.backtest.beats_baseline:
        limits.append("It has not been shown to be better than its baseline.")
    return "\n".join(f"- {limit}" for limit in limits)


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
