"""Waiting for a server that is away, and going on when it is back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from envol.errors import StorageError

PATIENCE = 300.0
"""Seconds that one waits for a server that was there before."""
OPENING = 10.0
"""Seconds that one waits for a server that nothing was heard of yet: its address may be wrong."""
_LONGEST_PAUSE = 5.0
Result = TypeVar("Result")


class UnreachableError(StorageError):
    """A server did not answer for longer than one waits, or went away in the middle of a block."""


class Server:
    """Something on the network that may be away for a while.

    Args:
        name: what it is and where, for messages; no password in it.
        away: why it cannot be reached, read from an error; None where the error says something else.
        remedy: what to do when it does not come back.
        opening: seconds to wait for it as long as it never answered.
    """

    def __init__(
        self, name: str, away: Callable[[Exception], str | None], remedy: str, opening: float = OPENING
    ) -> None:
        self.name = name
        self.away = away
        self._remedy = remedy
        self._patience = opening

    def awaited(self, work: Callable[[], Result]) -> Result:
        """Do the work, and again from its start while the server is away.

        Raises:
            UnreachableError: it was away for longer than one waits.
        """
        import random

        with _absence(self.name) as tell:
            deadline, pause = 0.0, 0.1
            while True:
                try:
                    result = work()
                except Exception as error:
                    reason = self.away(error)
                    if reason is None:
                        raise
                    if not deadline:  # most often a connection that dropped while nobody used it
                        deadline = time.monotonic() + self._patience
                        continue
                    if time.monotonic() >= deadline:
                        raise self.unreachable(reason) from error
                    tell(f"{reason}; waiting for up to {self._patience:.0f} s")
                else:
                    self._patience = max(self._patience, PATIENCE)
                    return result
                time.sleep(min(pause * random.uniform(0.5, 1.0), max(0.0, deadline - time.monotonic())))
                pause = min(2 * pause, _LONGEST_PAUSE)

    def unreachable(self, reason: str) -> UnreachableError:
        """The error for a server that is away."""
        return UnreachableError(f"{self.name} cannot be reached: {reason}", remedy=self._remedy)


_telling = threading.Lock()
_told: set[str] = set()
"""The servers whose absence was told: of all who wait for one, one says so, and one that it is over."""


@contextmanager
def _absence(name: str) -> Iterator[Callable[[str], None]]:
    """Gives what tells, once, that the server is away; the end of the block tells that it answers again."""
    import logging

    log = logging.getLogger(__name__)
    told = False

    def tell(text: str) -> None:
        nonlocal told
        told = True
        with _telling:
            if name not in _told:
                _told.add(name)
                log.warning("%s: %s", name, text)

    answers = False
    try:
        yield tell
        answers = True
    finally:
        if told:
            with _telling:
                if name in _told and answers:
                    log.warning("%s answers again", name)
                _told.discard(name)
