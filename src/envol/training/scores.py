"""Weighted scores: sort once, then score any resample of the rows by its weights.

A bootstrap resample is a vector of how often each row was drawn. Each class here prepares what does not
depend on the weights and returns, for given weights, every score by name; NaN where one is undefined.
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
    """Rows ordered by a score, equal scores in one group."""

    def __init__(self, score: Floats) -> None:
        self.order = np.argsort(score, kind="stable")
        ordered = score[self.order]
        self.first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        self._tied = len(self.first) < len(score)
        sizes = np.diff(np.append(self.first, len(score)))
        decile = BINS * (np.cumsum(sizes) - sizes / 2) // len(score)
        self.deciles = np.flatnonzero(np.concatenate(([True], decile[1:] != decile[:-1])))

    def sums(self, values: Floats) -> Floats:
        """Sum of the values over each group, lowest score first."""
        ordered = values[self.order]
        return np.add.reduceat(ordered, self.first) if self._tied else ordered

    def decile_sums(self, values: Floats) -> Floats:
        """Sum of the values over tenths of the rows by score; rows of equal score stay together."""
        return np.asarray(np.add.reduceat(self.sums(values), self.deciles))


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
        self._y = positive.astype(np.float64)
        self._ranking = Ranking(probability)
        self._gap = probability - self._y
        self._squared = self._gap**2
        clipped = np.clip(probability, SMALLEST, 1 - SMALLEST)
        self._log = -np.log(np.where(positive, clipped, 1 - clipped))
        self._hit = (positive == decided).astype(np.float64)

    def __call__(self, weights: Floats) -> dict[str, float]:
        total = weights.sum()
        positives = self._ranking.sums(weights * self._y)
        everyone = self._ranking.sums(weights)
        positive = positives.sum()
        return {
            "roc_auc": _roc_auc(positives, everyone - positives),
            "average_precision": _average_precision(positives, everyone),
            "brier": float(weights @ self._squared / total),
            "log_loss": float(weights @ self._log / total),
            "ece": float(np.abs(self._ranking.decile_sums(weights * self._gap)).sum() / total),
            "base_rate": float(positive / total),
            "lift_at_10": _lift(positives, everyone),
            "accuracy": float(weights @ self._hit / total),
        }


class MulticlassScores:
    """Scores of one probability a class: `probability` is rows x classes, `truth` and `decided` indexes."""

    names = ("accuracy", "macro_f1", "log_loss", "roc_auc")

    def __init__(self, truth: Codes, probability: Floats, decided: Codes) -> None:
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
            "log_loss": float(weights @ self._log / total),
            "roc_auc": self._one_against_rest(weights),
        }

    def _one_against_rest(self, weights: Floats) -> float:
        areas = []
        for code, ranking in self._rankings.items():
            positives = ranking.sums(weights * (self._truth == code))
            areas.append(_roc_auc(positives, ranking.sums(weights) - positives))
        defined = [area for area in areas if area == area]
        return sum(defined) / len(defined) if len(defined) > 1 else float("nan")


class RegressionScores:
    """Scores of a predicted number; the error is prediction minus truth."""

    names = ("mae", "rmse", "r2", "bias", "median_ae")

    def __init__(self, truth: Floats, prediction: Floats) -> None:
        self._y = truth - truth.mean()  # centred, so that the squares below do not cancel
        self._error = prediction - truth
        self._absolute = np.abs(self._error)
        self._order = np.argsort(self._absolute, kind="stable")
        self._sorted = self._absolute[self._order]

    def __call__(self, weights: Floats) -> dict[str, float]:
        total = weights.sum()
        squares = float(weights @ self._error**2)
        spread = float(weights @ self._y**2 - (weights @ self._y) ** 2 / total)
        return {
            "mae": float(weights @ self._absolute / total),
            "rmse": float(np.sqrt(squares / total)),
            "r2": 1 - squares / spread if spread > 0 else float("nan"),
            "bias": float(weights @ self._error / total),
            "median_ae": self._median(weights),
        }

    def _median(self, weights: Floats) -> float:
        reached = np.cumsum(weights[self._order])
        half = reached[-1] / 2
        lower, upper = np.searchsorted(reached, half, "left"), np.searchsorted(reached, half, "right")
        return float((self._sorted[lower] + self._sorted[upper]) / 2)


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


def _roc_auc(positives: Floats, negatives: Floats) -> float:
    pairs = positives.sum() * negatives.sum()
    return float(positives @ (np.cumsum(negatives) - negatives / 2) / pairs) if pairs else float("nan")


def _average_precision(positives: Floats, everyone: Floats) -> float:
    total = positives.sum()
    if not total:
        return float("nan")
    hits, alerts = np.cumsum(positives[::-1]), np.cumsum(everyone[::-1])
    precision = np.divide(hits, alerts, out=np.zeros_like(hits), where=alerts > 0)
    return float(positives[::-1] @ precision / total)


def _lift(positives: Floats, everyone: Floats) -> float:
    total, found = everyone.sum(), positives.sum()
    if not found:
        return float("nan")
    wanted = TOP * total
    riskier = np.cumsum(everyone[::-1])[::-1] - everyone
    taken = np.clip(wanted - riskier, 0, everyone)  # of a group of equal scores, its share
    rate = np.divide(positives, everyone, out=np.zeros_like(positives), where=everyone > 0)
    return float(taken @ rate / wanted / (found / total))
