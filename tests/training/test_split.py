"""Temporal folds, over arbitrary data and spans."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from envol.project.windows import Span
from envol.training.split import Instants, micros, temporal_folds

PARIS = ZoneInfo("Europe/Paris")
SPANS = st.one_of(
    st.integers(1, 90).map(lambda n: Span(n, "d")),
    st.integers(1, 8).map(lambda n: Span(n, "w")),
    st.integers(1, 4).map(lambda n: Span(n, "mo")),
    st.integers(12, 500).map(lambda n: Span(n, "h")),
)
CUTOFFS = st.datetimes(datetime(2013, 1, 1), datetime(2014, 12, 31), timezones=st.just(PARIS)).map(
    lambda moment: moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
)


@st.composite
def rows(draw: st.DrawFn) -> tuple[Instants, Instants]:
    hours = sorted(draw(st.lists(st.integers(0, 24 * 900), min_size=0, max_size=60)))
    late = draw(st.lists(st.integers(0, 24 * 40), min_size=len(hours), max_size=len(hours)))
    begin = micros(datetime(2012, 6, 1, tzinfo=UTC))
    starts = np.array([begin + hour * 3_600_000_000 for hour in hours], dtype=np.int64)
    return starts, starts + np.array(late, dtype=np.int64) * 3_600_000_000


@settings(deadline=None, max_examples=150)
@given(rows(), CUTOFFS, SPANS, SPANS, st.integers(0, 8))
def test_folds_never_look_ahead_and_cover_the_end(
    data: tuple[Instants, Instants], cutoff: datetime, train: Span, test: Span, folds: int
) -> None:
    starts, known = data
    kept, skipped = temporal_folds(starts, known, cutoff=cutoff, train=train, test=test, folds=folds)
    assert len(kept) + len(skipped) == folds
    spans = sorted((micros(each.start), micros(each.end)) for each in [*kept, *skipped])
    assert all(end == begin for (_, end), (begin, _) in zip(spans, spans[1:], strict=False))
    if folds:
        assert spans[-1][1] == micros(cutoff)
    assert [each.number for each in kept] == sorted(each.number for each in kept)
    for split in kept:
        trained, evaluated = split.training(starts, known), split.evaluation(starts)
        assert trained.any() and evaluated.any()
        assert (
            max(starts[trained].max(), known[trained].max()) < micros(split.start) <= starts[evaluated].min()
        )
        assert starts[evaluated].max() < micros(split.end)
        wanted = micros(train.before(split.start))
        assert micros(split.train_start) == max(wanted, starts.min())
        assert 2 * (micros(split.start) - micros(split.train_start)) >= micros(split.start) - wanted


def test_months_keep_their_day_and_short_history_is_left_out_with_the_reason() -> None:
    first = datetime(2013, 1, 1, tzinfo=PARIS)
    starts = np.array([micros(first + timedelta(days=day)) for day in range(180)], dtype=np.int64)
    kept, skipped = temporal_folds(
        starts,
        starts,
        cutoff=datetime(2013, 7, 1, tzinfo=PARIS),
        train=Span.parse("90d"),
        test=Span.parse("1mo"),
        folds=6,
    )
    assert [f"{split.start:%m-%d} {split.end:%m-%d}" for split in kept] == [
        "03-01 04-01",
        "04-01 05-01",
        "05-01 06-01",
        "06-01 07-01",
    ]
    assert kept[0].train_start == first
    assert [each.reason for each in skipped] == [
        "0 of the 90 days of history, less than half",
        "31 of the 90 days of history, less than half",
    ]


def test_a_gap_in_the_data_leaves_a_fold_out() -> None:
    first = datetime(2013, 1, 1, tzinfo=UTC)
    days = [*range(50), *range(60, 80)]
    starts = np.array([micros(first + timedelta(days=day)) for day in days], dtype=np.int64)
    kept, skipped = temporal_folds(
        starts,
        starts,
        cutoff=first + timedelta(days=80),
        train=Span.parse("30d"),
        test=Span.parse("10d"),
        folds=3,
    )
    assert [split.number for split in kept] == [2, 3]
    assert [each.reason for each in skipped] == ["no labelled rows to evaluate on"]
