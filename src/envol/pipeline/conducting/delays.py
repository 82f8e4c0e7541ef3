"""Waiting before something that failed is tried again: longer each time it fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

FIRST_SECONDS = 60.0
LONGEST_SECONDS = 3600.0


@dataclass
class Delay:
    """The wait after a failure: `first` seconds, doubled by each further one up to `longest`.

    Args:
        now: seconds of a clock that never goes back.
    """

    first: float = FIRST_SECONDS
    longest: float = LONGEST_SECONDS
    now: Callable[[], float] = time.monotonic
    failures: int = 0
    until: float = float("-inf")

    def failed(self) -> float:
        """It failed (again); returns the seconds to wait."""
        wait = min(self.first * 2.0**self.failures, self.longest)
        self.failures = min(self.failures + 1, 64)
        self.until = self.now() + wait
        return wait

    def is_over(self) -> bool:
        """Whether it may be tried now."""
        return self.now() >= self.until

    def reset(self) -> None:
        """Forget the failures."""
        self.failures, self.until = 0, float("-inf")


@dataclass
class _Waiting:
    delay: Delay
    windows: set[int]


@dataclass
class HeldBack:
    """Windows that failed, by node: held back for a while, one delay a node.

    A node's other windows go on meanwhile; those that fail as well wait for the same instant.
    """

    new: Callable[[], Delay] = Delay
    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    _tried: dict[str, Delay] = field(default_factory=dict)

    def begin(self) -> dict[str, list[int]]:
        """A run begins: the windows (their starts) that it leaves out. The others count as tried."""
        for node in [node for node, one in self._waiting.items() if one.delay.is_over()]:
            self._tried[node] = self._waiting.pop(node).delay
        return {node: sorted(one.windows) for node, one in self._waiting.items()}

    def end(self, failed: Mapping[str, Iterable[int]]) -> None:
        """The run has ended, and these windows have failed in it."""
        for node, windows in failed.items():
            if node in self._waiting:
                self._waiting[node].windows |= set(windows)
            else:
                delay = self._tried.pop(node, None) or self.new()
                delay.failed()
                self._waiting[node] = _Waiting(delay, set(windows))
        self._tried.clear()

    def is_over(self) -> bool:
        """Whether some node's wait is over."""
        return any(one.delay.is_over() for one in self._waiting.values())

    def clear(self) -> None:
        """Forget all failures."""
        self._waiting.clear()
        self._tried.clear()
