"""How old records of each kind may grow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from envol.project.config import NEVER
from envol.project.windows import Span

if TYPE_CHECKING:
    from envol.project import Project

LEFTOVERS = timedelta(days=1)
"""Files that a killed process has left are removed after that; what lives is younger."""


@dataclass(frozen=True)
class Limits:
    """The instants (epoch seconds) before which records of each kind may go; None for never."""

    now: datetime
    logs: float | None
    failed_logs: float | None
    tasks: float | None
    runs: float | None
    snapshots: float | None
    quarantine: float | None
    backfills: float | None
    schema_changes: float | None

    @classmethod
    def of(cls, project: Project, now: datetime) -> Limits:
        """Those that `[retention]` of the project says at an instant."""
        section = project.config.retention
        local = now.astimezone(project.calendar.zone)

        def before(span: str) -> float | None:
            return None if span == NEVER else Span.parse(span).before(local).timestamp()

        return cls(now, **{name: before(getattr(section, name)) for name in section.__struct_fields__})
