"""Waiting for a server that is away, and going on when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable
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
        import logging
        import random

        log = logging.getLogger(__name__)
        deadline, pause, told = 0.0, 0.1, False
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
                if not told:
                    log.warning("%s: %s; waiting for up to %.0f s", self.name, reason, self._patience)
                    told = True
            else:
                self._patience = max(self._patience, PATIENCE)
                if told:
                    log.warning("%s answers again", self.name)
                return result
            time.sleep(min(pause * random.uniform(0.5, 1.0), max(0.0, deadline - time.monotonic())))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def unreachable(self, reason: str) -> UnreachableError:
        """The error for a server that is away."""
        return UnreachableError(f"{self.name} cannot be reached: {reason}", remedy=self._remedy)
