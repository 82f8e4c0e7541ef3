"""Temporal folds: train on the past, evaluate on what follows, repeated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envol.project.windows import Span

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000  # microseconds
Instants = NDArray[np.int64]  # microseconds since 1970-01-01 UTC


@dataclass(frozen=True)
class Split:
    """One fold: trains on [train_start, start), evaluates on [start, end). Counted from 1, oldest first."""

    number: int
    train_start: datetime
    start: datetime
    end: datetime

    def training(self, starts: Instants, known: Instants) -> NDArray[np.bool_]:
        """Mask of the rows to train on: in the span, and with a label that is known before `start`."""
        start = micros(self.start)
        mask: NDArray[np.bool_] = (starts >= micros(self.train_start)) & (starts < start) & (known < start)
        return mask

    def evaluation(self, starts: Instants) -> NDArray[np.bool_]:
        """Mask of the rows to evaluate on."""
        mask: NDArray[np.bool_] = (starts >= micros(self.start)) & (starts < micros(self.end))
        return mask


@dataclass(frozen=True)
class Skipped:
    """A fold left out, and why."""

    start: datetime
    end: datetime
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return {"start": self.start.isoformat(), "end": self.end.isoformat(), "reason": self.reason}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Skipped:
        return cls(
            datetime.fromisoformat(stored["start"]), datetime.fromisoformat(stored["end"]), stored["reason"]
        )


def temporal_folds(
    starts: Instants, known: Instants, *, cutoff: datetime, train: Span, test: Span, folds: int
) -> tuple[list[Split], list[Skipped]]:
    """The folds before `cutoff`, oldest first, and those left out.

    The folds' evaluated spans follow each other without gap and end at the cutoff. Each trains on the `train`
    before it, as far as there is data; it is left out when less than half of that is there, or when no row
    is left to train or to evaluate on.

    Args:
        starts: for each row, the start of its window.
        known: for each row, the start of the window that brought its label (`starts` or later).
    """
    kept: list[Split] = []
    skipped: list[Skipped] = []
    for back in range(folds, 0, -1):
        start = test.times(back).before(cutoff)
        end = test.times(back - 1).before(cutoff)
        wanted = train.before(start)
        first = int(starts.min()) if len(starts) else micros(cutoff)
        asked = micros(start) - micros(wanted)
        history = micros(start) - max(first, micros(wanted))
        split = Split(
            number=folds - back + 1,
            train_start=wanted if first <= micros(wanted) else instant(first, cutoff),
            start=start,
            end=end,
        )
        reason = None
        if 2 * history < asked:
            reason = f"{_days(history)} of the {_days(asked)} days of history, less than half"
        elif not split.training(starts, known).any():
            reason = "no labelled rows to train on"
        elif not split.evaluation(starts).any():
            reason = "no labelled rows to evaluate on"
        if reason:
            skipped.append(Skipped(start, end, reason))
        else:
            kept.append(split)
    return kept, skipped


def _days(length: int) -> str:
    return f"{round(max(length, 0) / DAY, 1):g}"


def micros(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware datetime."""
    return (moment.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)


def instant(at: int, like: datetime) -> datetime:
    """The datetime of microseconds since 1970-01-01 UTC, in the zone of `like`."""
    return (EPOCH + timedelta(microseconds=at)).astimezone(like.tzinfo)


def span_text(start: datetime, end: datetime) -> str:
    """[start, end) as people write it: whole days with the last one included, else to the minute."""
    last = end - timedelta(microseconds=1)
    if all(moment.hour == moment.minute == 0 for moment in (start, end)):
        return f"{start:%Y-%m-%d}..{last:%Y-%m-%d}"
    return f"{start:%Y-%m-%dT%H:%M}..{end:%Y-%m-%dT%H:%M}"
