"""Identifiers of predictions: unique, and sorted by time when sorted as text."""

from __future__ import annotations

import secrets
import threading
import time

_RANDOM_BITS = 62
_VARIANT = 0b10 << _RANDOM_BITS


class Ids:
    """Makes UUIDs of version 7 (RFC 9562, method 3: the 12 bits after the millisecond hold its fraction).

    The ids of one maker strictly increase, also within a millisecond and when the clock steps back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def take(self, count: int) -> list[str]:
        """`count` new ids in increasing order, in the usual form with hyphens."""
        now = time.time_ns()
        milliseconds, rest = divmod(now, 1_000_000)
        with self._lock:
            first = max((milliseconds << 12) | (rest * 4096 // 1_000_000), self._last + 1)
            self._last = first + count - 1
        return [_format(first + offset) for offset in range(count)]


def _format(ticks: int) -> str:
    milliseconds, fraction = ticks >> 12, ticks & 0xFFF
    number = (milliseconds << 80) | (0x7000 | fraction) << 64 | _VARIANT | secrets.randbits(_RANDOM_BITS)
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
