"""Weighted scores: sort once, then score any resample of the rows by its weights.

A bootstrap resample is a vector of how often each row was drawn. Each class here prepares what does not
depend on the weights and, called with weights (rows in its `order`), returns every score by name; NaN where
one is undefined.
The definitions are those of scikit-learn's functions of the same name with `sample_weight`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
BINS = 10
SMALLEST = float(np.finfo(np.float64).eps)  # probabilities are clipped to this before the logarithm
TOP = 0.1


class Ranking:
    """Rows ordered from the highest score down, equal scores in one group."""

    def __init__(self, score: Floats) -> None:
        self.order = np.argsort(-score, kind="stable")
        ordered = score[self.order]
        self._first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        self._tied = len(self._first) < len(score)
        sizes = np.diff(np.append(self._first, len(score)))
        tenth = (BINS * (np.cumsum(sizes) - sizes / 2)) // len(score)
        self._tenths = np.flatnonzero(np.concatenate(([True], tenth[1:] != tenth[:-1])))

    def groups(self, ordered: Floats) -> Floats:
        """Sum over each group of one value a row, the rows in `order`."""
        return np.add.reduceat(ordered, self._first) if self._tied else ordered

    def tenths(self, ordered: Floats) -> Floats:
        """Sum over each tenth of the rows, the rows in `order`; rows of equal score stay together."""
        return np.asarray(np.add.reduceat(self.groups(ordered), self._tenths))


class Curve:
    """Hits and alerts as the threshold falls, from weights of the positive and of all rows, by group."""

    def __init__(self, positives: Floats, everyone: Floats) -> None:
        self._positives, self._everyone = positives, everyone
        self._hits, self._alerts = np.cumsum(positives), np.cumsum(everyone)
        self._found, self._total = float(self._hits[-1]), float(self._alerts[-1])

    def roc_auc(self) -> float:
        pairs = self._found * (self._total - self._found)
        if not pairs:
            return float("nan")
        negatives = self._everyone - self._positives
        return 1 - _dot(self._positives, self._alerts - self._hits - negatives / 2) / pairs

    def average_precision(self) -> float:
        if not self._found:
            return float("nan")
        precision = self._hits / np.maximum(self._alerts, SMALLEST)  # no alert, no hit: 0
        return _dot(self._positives, precision) / self._found

    def lift(self, share: float) -> float:
        """Rate among the riskiest share over the overall rate; a group on the edge counts in part."""
        if not self._found:
            return float("nan")
        wanted = share * self._total
        edge = int(np.searchsorted(self._alerts, wanted))
        hits, alerts = (self._hits[edge - 1], self._alerts[edge - 1]) if edge else (0.0, 0.0)
        hits += (wanted - alerts) * self._positives[edge] / self._everyone[edge]
        return float(hits / wanted / (self._found / self._total))


class BinaryScores:
    """Scores of a probability of the positive class, and of the decision taken from it."""

    names = (
        "roc_auc",
        "average_precision",
        "brier",
        "log_loss",
        "ece",
        "base_rate",
        "lift_at_10",
        "accuracy",
    )

    def __init__(self, positive: NDArray[np.bool_], probability: Floats, decided: NDArray[np.bool_]) -> None:
        self._ranking = Ranking(probability)
        self.order = self._ranking.order
        positive, decided = positive[self.order], decided[self.order]
        probability = probability[self.order]
        self._y = positive.astype(np.float64)
        self._gap = probability - self._y
        self._squared = self._gap**2
        clipped = np.clip(probability, SMALLEST, 1 - SMALLEST)
        self._log = -np.log(np.where(positive, clipped, 1 - clipped))
        self._hit = (positive == decided).astype(np.float64)

    def __call__(self, weights: Floats) -> dict[str, float]:
        total = float(weights.sum())
        curve = Curve(self._ranking.groups(weights * self._y), self._ranking.groups(weights))
        return {
            "roc_auc": curve.roc_auc(),
            "average_precision": curve.average_precision(),
            "brier": _dot(weights, self._squared) / total,
            "log_loss": _dot(weights, self._log) / total,
            "ece": float(np.abs(self._ranking.tenths(weights * self._gap)).sum()) / total,
            "base_rate": _dot(weights, self._y) / total,
            "lift_at_10": curve.lift(TOP),
            "accuracy": _dot(weights, self._hit) / total,
        }


class MulticlassScores:
    """Scores of one probability a class: `probability` is rows x classes, `truth` and `decided` indexes."""

    names = ("accuracy", "macro_f1", "log_loss", "roc_auc")

    def __init__(self, truth: Codes, probability: Floats, decided: Codes) -> None:
        self.order = np.arange(len(truth))
        self._count = probability.shape[1]
        self._truth, self._cell = truth, truth * self._count + decided
        self._log = -np.log(np.clip(probability[np.arange(len(truth)), truth], SMALLEST, 1.0))
        self._rankings = {
            code: Ranking(np.ascontiguousarray(probability[:, code])) for code in np.unique(truth).tolist()
        }

    def __call__(self, weights: Floats) -> dict[str, float]:
        total = weights.sum()
        table = np.bincount(self._cell, weights, self._count**2).reshape(self._count, self._count)
        seen = table.sum(0) + table.sum(1)
        hits = np.diagonal(table)
        return {
            "accuracy": float(hits.sum() / total),
            "macro_f1": float((2 * hits[seen > 0] / seen[seen > 0]).mean()),
            "log_loss": _dot(weights, self._log) / float(total),
            "roc_auc": self._one_against_rest(weights),
        }

    def _one_against_rest(self, weights: Floats) -> float:
        areas = []
        for code, ranking in self._rankings.items():
            ordered = weights[ranking.order]
            positives = ranking.groups(ordered * (self._truth[ranking.order] == code))
            areas.append(Curve(positives, ranking.groups(ordered)).roc_auc())
        defined = [area for area in areas if area == area]
        return sum(defined) / len(defined) if len(defined) > 1 else float("nan")


class RegressionScores:
    """Scores of a predicted number; the error is prediction minus truth."""

    names = ("mae", "rmse", "r2", "bias", "median_ae")

    def __init__(self, truth: Floats, prediction: Floats) -> None:
        error = prediction - truth
        self.order = np.argsort(np.abs(error), kind="stable")
        self._error = error[self.order]
        self._absolute = np.abs(self._error)
        self._squared = self._error**2
        self._y = (truth - truth.mean())[self.order]  # centred, so that the squares do not cancel
        self._y_squared = self._y**2

    def __call__(self, weights: Floats) -> dict[str, float]:
        total = float(weights.sum())
        squares = _dot(weights, self._squared)
        spread = _dot(weights, self._y_squared) - _dot(weights, self._y) ** 2 / total
        return {
            "mae": _dot(weights, self._absolute) / total,
            "rmse": float(np.sqrt(squares / total)),
            "r2": 1 - squares / spread if spread > 0 else float("nan"),
            "bias": _dot(weights, self._error) / total,
            "median_ae": self._median(weights),
        }

    def _median(self, weights: Floats) -> float:
        reached = np.cumsum(weights)
        half = reached[-1] / 2
        lower, upper = np.searchsorted(reached, half, "left"), np.searchsorted(reached, half, "right")
        return float((self._absolute[lower] + self._absolute[upper]) / 2)


Scores = BinaryScores | MulticlassScores | RegressionScores


def draws(rows: int, blocks: Codes | None, *, seed: int, resamples: int) -> Any:
    """Weights of bootstrap resamples, one vector over the rows after the other.

    Args:
        blocks: for each row, the index of the block it belongs to; blocks are drawn whole, since rows of one
            day have weather and traffic in common. Rows are drawn one by one when None.
    """
    random = np.random.default_rng(seed)
    count = rows if blocks is None else int(blocks.max()) + 1
    for _ in range(resamples):
        weights = np.bincount(random.integers(0, count, count), minlength=count).astype(np.float64)
        yield weights if blocks is None else weights[blocks]


def _dot(left: Floats, right: Floats) -> float:
    # Not BLAS: its threads gain nothing on one vector and spin where cores are shared.
    return float(np.einsum("i,i", left, right))
