"""What people and monitoring ask of the conductor, kept in the metadata database with who and when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from envol.pipeline.lease import is_dead
from envol.storage import Metadata, tables

if TYPE_CHECKING:
    from envol.project.clock import Clock

CONDUCTOR, RUN = "conductor", "run"
"""The leases of the only active conductor and of the only run."""
_PAUSE, _WAKE, _RETRAIN = "pause", "wake", "retrain:"
_control, _lease, _run = tables.control.c, tables.lease.c, tables.run.c


@dataclass(frozen=True)
class Asked:
    """Something that was asked for: by whom, when (epoch seconds), and why."""

    by: str
    at: float
    reason: str


@dataclass(frozen=True)
class Wishes:
    """What is asked of the conductor at the moment, and who is at work.

    `paused` is None while the conductor goes on, `wake` asks it to look at once, `retrain` by model for a
    training on the newest data. `run_by` is the row of the lease of the active run.
    """

    paused: Asked | None = None
    wake: Asked | None = None
    retrain: Mapping[str, Asked] = field(default_factory=dict)
    run_by: RowMapping | None = None


class Control:
    """Writes and reads what is asked of a project's conductor.

    Args:
        clock: says when something was asked.
    """

    def __init__(self, metadata: Metadata, clock: Clock) -> None:
        self._metadata, self._clock = metadata, clock

    def pause(self, by: str, reason: str = "") -> None:
        """Let the conductor end its running tasks, and begin nothing until `resume`."""
        self._put(_PAUSE, by, json.dumps({"paused": True, "reason": reason}))

    def resume(self, by: str) -> bool:
        """Let the conductor go on; returns whether it was paused."""
        was_paused = self.wishes().paused is not None
        if was_paused:
            self._put(_PAUSE, by, json.dumps({"paused": False, "reason": ""}))
        return was_paused

    def wake(self, by: str) -> None:
        """Let the conductor look at once, and try again what has failed."""
        self._put(_WAKE, by, "")

    def retrain(self, model: str, by: str, reason: str) -> None:
        """Let the conductor train a model on the newest data, besides the trainings by its `every`."""
        self._put(_RETRAIN + model, by, reason)

    def cancel(self, run: str, by: str) -> bool:
        """Let a run end its running tasks and begin nothing else; returns whether it was still running."""
        going = (_run.id == run, _run.state == "running")

        def work(connection: Connection) -> bool:
            connection.execute(update(tables.run).where(*going).values(cancelled_by=by))
            return connection.execute(select(_run.id).where(*going)).first() is not None

        return self._metadata.write(work)

    def crashed(self, run: str) -> None:
        """The process of a run has died."""
        ended = {"state": "crashed", "ended_at": self._clock.now().timestamp()}
        going = (_run.id == run, _run.state == "running")

        def work(connection: Connection) -> None:
            connection.execute(update(tables.run).where(*going).values(ended))

        self._metadata.write(work)

    def wishes(self) -> Wishes:
        """All that is asked now, in one look."""

        def work(connection: Connection) -> tuple[list[RowMapping], RowMapping | None]:
            asked = connection.execute(select(tables.control)).mappings().all()
            run = select(tables.lease).where(_lease.name == RUN, _lease.held)
            return list(asked), connection.execute(run).mappings().first()

        rows, run_by = self._metadata.read(work)
        asked = {row["name"]: Asked(row["by"], row["at"], row["value"]) for row in rows}
        retrain = {
            name.removeprefix(_RETRAIN): one for name, one in asked.items() if name.startswith(_RETRAIN)
        }
        alive = None if run_by is None or is_dead(run_by) else run_by
        return Wishes(_paused(asked.get(_PAUSE)), asked.get(_WAKE), retrain, alive)

    def woken(self, asked: Asked) -> None:
        """The conductor looks now: the wish is fulfilled, unless there is a later one."""
        self._remove(_WAKE, asked)

    def retrained(self, model: str, asked: Asked) -> None:
        """The model is trained: the wish is fulfilled, unless there is a later one."""
        self._remove(_RETRAIN + model, asked)

    def _put(self, name: str, by: str, value: str) -> None:
        row = {"name": name, "value": value, "at": self._clock.now().timestamp(), "by": by}

        def work(connection: Connection) -> None:
            connection.execute(delete(tables.control).where(_control.name == name))
            connection.execute(insert(tables.control).values(row))

        self._metadata.write(work)

    def _remove(self, name: str, asked: Asked) -> None:
        def work(connection: Connection) -> None:
            connection.execute(delete(tables.control).where(_control.name == name, _control.at == asked.at))

        self._metadata.write(work)


def _paused(asked: Asked | None) -> Asked | None:
    told = json.loads(asked.reason) if asked else {}
    return Asked(asked.by, asked.at, told["reason"]) if asked and told["paused"] else None
