"""Rows that a function returns in batches: checked and kept in bounded memory, however many they are."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from envol.errors import DataError
from envol.project.contracts import broken_rules, check
from envol.storage import Spool

MOST_BROKEN = 1_000_000
"""Broken rows of one window that are kept; a window with more of them fails."""


@dataclass(frozen=True)
class Divided:
    """The rows of a window that are good, and those that are not with the reason in `broken_rule`."""

    good: pl.DataFrame | Spool
    broken: pl.DataFrame

    @classmethod
    def of(cls, frame: pl.DataFrame, contract: type[Any] | None) -> Divided:
        """A frame's rows, divided by the contract if there is one."""
        if contract is None:
            return cls(frame, frame.clear())
        checked = check(frame, contract)
        return cls(checked.good, checked.broken)


def gather(
    batches: Generator[pl.DataFrame], contract: type[Any] | None, folder: Path, files: ExitStack
) -> Divided:
    """All batches of a window, divided by the contract.

    A window that fits in memory is checked as a whole. Of a larger one each batch is checked by itself, so
    that rules over groups of rows see one batch; rows that repeat a primary key fail the window.

    Args:
        folder: where rows that do not fit in memory are kept.
        files: closes those files.

    Raises:
        DataError: as `check`; a column changes its dtype between batches; a primary key is repeated.
    """
    came = files.enter_context(Spool(folder))
    with closing(batches):  # ends the process that makes them when one of them is refused
        for batch in batches:
            came.append(batch)
    if came.in_memory:
        return Divided.of(came.frame(), contract)
    if contract is None:
        return Divided(came, pl.DataFrame(schema=came.schema))
    good, broken = files.enter_context(Spool(folder)), list[pl.DataFrame]()
    for frame in came.frames():
        checked = check(frame, contract)
        good.append(checked.good)
        if not checked.broken.is_empty() or not broken:
            broken.append(checked.broken)
        if (number := sum(one.height for one in broken)) > MOST_BROKEN:
            raise DataError(
                f"more than {MOST_BROKEN:,} of the first {good.height + number:,} rows break the contract:"
                f" {broken_rules(pl.concat(broken))}",
                remedy="mend the source, or the contract",
            )
    came.close()
    _refuse_repeated(good, contract)
    return Divided(good, pl.concat(broken))


def _refuse_repeated(rows: Spool, contract: type[Any]) -> None:
    key = contract.primary_key()
    if not key:
        return
    hashes, filled = np.empty(rows.height, np.uint64), 0
    for frame in rows.frames():
        hashes[filled : filled + frame.height] = frame.select(key).hash_rows(seed=0)
        filled += frame.height
    hashes.sort()
    repeated = int(np.count_nonzero(hashes[1:] == hashes[:-1]))
    if repeated:
        raise DataError(
            f"{repeated:,} of {rows.height:,} rows repeat the primary key {', '.join(key)}",
            remedy="drop the repeated rows in the function, or read them in smaller windows",
        )
