"""Backtest: what the model would have done on windows it had not seen, beside a baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from envol.project.nodes import Model, Task
from envol.training.columns import PREDICTION, PROBABILITY, probability_column
from envol.training.data import Examples, prepare
from envol.training.fit import fit, frame_kind
from envol.training.metrics import Metric, Metrics, evaluate, losses, mean_with_interval
from envol.training.predict import predict_frame
from envol.training.repeatable import limited
from envol.training.split import Skipped, Split, span_text, temporal_folds
from envol.training.verdict import judge

Progress = Callable[[str], None]


def quiet(line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Fold:
    """Trained on [train_start, start), evaluated on [start, end)."""

    number: int
    train_start: datetime
    start: datetime
    end: datetime
    train_rows: int
    rows: int
    model: Metrics
    baseline: Metrics

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "train_start": self.train_start.isoformat(),
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "train_rows": self.train_rows,
            "rows": self.rows,
            "model": self.model.to_dict(),
            "baseline": self.baseline.to_dict(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Fold:
        return cls(
            number=stored["number"],
            train_start=datetime.fromisoformat(stored["train_start"]),
            start=datetime.fromisoformat(stored["start"]),
            end=datetime.fromisoformat(stored["end"]),
            train_rows=stored["train_rows"],
            rows=stored["rows"],
            model=Metrics.from_dict(stored["model"]),
            baseline=Metrics.from_dict(stored["baseline"]),
        )


@dataclass(frozen=True)
class Backtest:
    """Folds and what they say together.

    `model` and `baseline` pool the rows of all folds (None without a fold). The baseline always answers with
    the class rates, or the mean, of the fold's training rows. `gain` is by how much the model's loss a row is
    lower than the baseline's: squared error of the probability, log loss or absolute error.
    """

    task: Task
    folds: tuple[Fold, ...]
    skipped: tuple[Skipped, ...]
    model: Metrics | None
    baseline: Metrics | None
    gain: Metric | None
    beats_baseline: bool
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: instants as ISO text, undefined as None."""
        return {
            "task": self.task,
            "folds": [fold.to_dict() for fold in self.folds],
            "skipped": [each.to_dict() for each in self.skipped],
            "model": self.model.to_dict() if self.model else None,
            "baseline": self.baseline.to_dict() if self.baseline else None,
            "gain": self.gain.to_dict() if self.gain else None,
            "beats_baseline": self.beats_baseline,
            "verdict": self.verdict,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Backtest:
        return cls(
            task=stored["task"],
            folds=tuple(Fold.from_dict(fold) for fold in stored["folds"]),
            skipped=tuple(Skipped.from_dict(each) for each in stored["skipped"]),
            model=Metrics.from_dict(stored["model"]) if stored["model"] else None,
            baseline=Metrics.from_dict(stored["baseline"]) if stored["baseline"] else None,
            gain=Metric(**stored["gain"]) if stored["gain"] else None,
            beats_baseline=stored["beats_baseline"],
            verdict=stored["verdict"],
        )


def backtest(
    model: Model,
    features: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    cutoff: datetime,
    parameters: Mapping[str, Any],
    progress: Progress = quiet,
    threads: int | None = None,
) -> Backtest:
    """Train and evaluate `model.folds` times on the windows before the cutoff.

    Args:
        features, labels: with `window_start`; those from `model.history_start(cutoff)` on are used.
        parameters: values of the function's parameters beside X and y.
        progress: receives a line for each fold.
        threads: native threads that a fit may use.

    Raises:
        DataError, ProjectError, Failure: as `train`.
    """
    examples = prepare(model, features, labels, cutoff=cutoff)
    with limited(threads):
        return run_folds(model, examples, cutoff=cutoff, parameters=parameters, progress=progress)


def run_folds(
    model: Model, examples: Examples, *, cutoff: datetime, parameters: Mapping[str, Any], progress: Progress
) -> Backtest:
    """The backtest of rows already joined."""
    splits, skipped = temporal_folds(
        examples.starts,
        examples.known,
        cutoff=cutoff,
        train=model.train,
        test=model.test,
        folds=model.folds,
    )
    for each in skipped:
        progress(f"fold of {span_text(each.start, each.end)} left out: {each.reason}")
    folds, answers = [], []
    for split in splits:
        X, y = examples.rows(split.training(examples.starts, examples.known))
        if examples.task != "regression" and y.n_unique() < 2:
            reason = f"all {len(y):,} rows to train on have {model.target} = {y[0]!r}"
            skipped.append(Skipped(split.start, split.end, reason))
            progress(f"fold of {span_text(split.start, split.end)} left out: {reason}")
            continue
        answer = _answer(model, examples, split, X, y, parameters)
        folds.append(_fold(model, examples, split, len(y), answer))
        answers.append(answer)
        progress(
            f"fold {split.number} of {model.folds}: trained on {span_text(split.train_start, split.start)}, "
            f"evaluated on {span_text(split.start, split.end)}"
        )
    return _pooled(model, examples, folds, skipped, answers)


@dataclass(frozen=True)
class _Answer:
    """What model and baseline said about rows, and the truth."""

    truth: pl.Series
    windows: pl.Series
    model: pl.DataFrame
    baseline: pl.DataFrame

    def metrics(self, examples: Examples, seed: int) -> tuple[Metrics, Metrics]:
        found = [
            evaluate(
                examples.task, self.truth, each, seed=seed, classes=examples.classes, windows=self.windows
            )
            for each in (self.model, self.baseline)
        ]
        return found[0], found[1]


def _answer(
    model: Model,
    examples: Examples,
    split: Split,
    X: pl.DataFrame,
    y: pl.Series,
    parameters: Mapping[str, Any],
) -> _Answer:
    estimator = fit(model, X, y, examples.task, parameters)
    evaluated = split.evaluation(examples.starts)
    inputs, truth = examples.rows(evaluated)
    return _Answer(
        truth=truth,
        windows=pl.Series("window", examples.starts[evaluated]),
        model=predict_frame(
            estimator, examples.task, examples.classes, inputs, frame_kind(model), node=model.name
        ),
        baseline=baseline_frame(examples.task, examples.classes, y, len(truth)),
    )


def baseline_frame(task: Task, classes: list[Any] | None, y: pl.Series, rows: int) -> pl.DataFrame:
    """What the baseline predicts for each of the rows: the class rates, or the mean, of `y`."""
    if task == "regression":
        return pl.DataFrame({PREDICTION: np.full(rows, y.mean())})
    labels = list(classes or [])
    rates = [float((y == label).sum()) / len(y) for label in labels]
    likeliest = pl.Series(PREDICTION, labels)[[int(np.argmax(rates))] * rows]
    if task == "binary":
        return pl.DataFrame([likeliest, pl.Series(PROBABILITY, np.full(rows, rates[1]))])
    return pl.DataFrame(
        [
            likeliest,
            *(
                pl.Series(probability_column(label), np.full(rows, rate))
                for label, rate in zip(labels, rates, strict=True)
            ),
        ]
    )


def _fold(model: Model, examples: Examples, split: Split, train_rows: int, answer: _Answer) -> Fold:
    own, baseline = answer.metrics(examples, model.seed)
    return Fold(
        number=split.number,
        train_start=split.train_start,
        start=split.start,
        end=split.end,
        train_rows=train_rows,
        rows=len(answer.truth),
        model=own,
        baseline=baseline,
    )


def _pooled(
    model: Model, examples: Examples, folds: list[Fold], skipped: list[Skipped], answers: list[_Answer]
) -> Backtest:
    own = baseline = gain = None
    if answers:
        pooled = _Answer(
            *(pl.concat([getattr(each, name) for each in answers]) for name in ("truth", "windows")),
            *(pl.concat([getattr(each, name) for each in answers]) for name in ("model", "baseline")),
        )
        own, baseline = pooled.metrics(examples, model.seed)
        better = [
            losses(examples.task, pooled.truth, each, examples.classes)
            for each in (pooled.baseline, pooled.model)
        ]
        gain = mean_with_interval(better[0] - better[1], pooled.windows, seed=model.seed)
    beats, verdict = judge(own, baseline, gain, skipped)
    return Backtest(
        task=examples.task,
        folds=tuple(folds),
        skipped=tuple(sorted(skipped, key=lambda each: each.start)),
        model=own,
        baseline=baseline,
        gain=gain,
        beats_baseline=beats,
        verdict=verdict,
    )
