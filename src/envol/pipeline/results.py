"""How a run goes and how it ended, for those who look on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from envol.errors import EnvolError

if TYPE_CHECKING:
    from envol.pipeline.plan import Plan, Task


class Observer(Protocol):
    """Hears how a run goes. Called from several threads, one at a time."""

    def started(self, run: str, plan: Plan) -> None: ...

    def finished(self, task: Task, label: str, state: str, rows: int, error: EnvolError | None) -> None:
        """A task ended as "done", "unchanged", "failed" or "skipped"."""

    def note(self, text: str) -> None:
        """A line about long work."""


@dataclass
class RunResult:
    """How a run ended; `state` is "done", "failed" or "cancelled", or "nothing" when nothing was due."""

    run: str | None
    state: str
    done: int = 0
    unchanged: int = 0
    failed: int = 0
    skipped: int = 0
    rows: int = 0
    seconds: float = 0.0
    failures: list[EnvolError] = field(default_factory=list)
    cancelled_by: str | None = None
    """Who has cancelled the run; None also where it was stopped by a signal."""

    def counts(self) -> dict[str, int]:
        return {"done": self.done, "failed": self.failed, "skipped": self.skipped}
