"""A run that somebody has started by hand beside a conductor, which waits for it."""

from __future__ import annotations

import logging
import time

from sqlalchemy import RowMapping

from envol.log import tell
from envol.pipeline.lease import PATIENCE_SECONDS

logger = logging.getLogger("envol.conductor")


class OtherRun:
    """Watches the lease of the only run, which another process may hold."""

    def __init__(self) -> None:
        self._token: int | None = None
        self._beats, self._since = -1, 0.0

    def is_over(self, lease: RowMapping | None) -> bool:
        """Whether a run may begin now, given who holds the lease; the first time that it may not is logged.

        A process of another machine that is silent for long counts as dead.
        """
        if lease is None:
            self._token = None
            return True
        if lease["token"] != self._token:
            tell(logger, logging.INFO, "busy", f"waits for the run of process {lease['pid']} to end")
        if (lease["token"], lease["beats"]) != (self._token, self._beats):
            self._token, self._beats, self._since = lease["token"], lease["beats"], time.monotonic()
        return time.monotonic() - self._since > PATIENCE_SECONDS
