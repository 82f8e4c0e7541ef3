"""Aliases: which version is the champion, and the record of every change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from envol.errors import NotFoundError, UserError
from envol.storage.tables import ACCEPTED, CHAMPION, PREDICTING

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "ACCEPTED",
    "CHAMPION",
    "PREDICTING",
    "AliasChange",
    "check_alias",
    "events",
    "previous_champion",
    "record",
]

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True)
class AliasChange:
    """An alias that pointed to `previous` (None: to nothing) and since `at` (UTC) points to `version`."""

    id: int
    model: str
    alias: str
    version: int | None
    previous: int | None
    at: datetime
    by: str
    reason: str


def check_alias(alias: str) -> None:
    """Refuse a text that is no alias.

    Raises:
        UserError: for anything but lower-case letters, digits, - and _.
    """
    if not _NAME.fullmatch(alias):
        raise UserError(
            f"{alias!r} is no alias", remedy="use lower-case letters, digits, - and _, a letter first"
        )


def events(connection: Connection, model: str, alias: str | None = None) -> list[AliasChange]:
    """The recorded changes of a model's aliases, oldest first."""
    from sqlalchemy import select

    from envol.storage.tables import alias_event

    query = select(alias_event).where(alias_event.c.model == model).order_by(alias_event.c.id)
    if alias is not None:
        query = query.where(alias_event.c.alias == alias)
    return [
        AliasChange(
            id=row.id,
            model=row.model,
            alias=row.alias,
            version=row.version,
            previous=row.previous,
            at=datetime.fromtimestamp(row.at, UTC),
            by=row.by,
            reason=row.reason,
        )
        for row in connection.execute(query)
    ]


def record(
    connection: Connection, model: str, alias: str, version: int, *, at: datetime, by: str, reason: str
) -> AliasChange:
    """Point the alias to the version and record it, in the caller's transaction."""
    from sqlalchemy import delete, insert, select

    from envol.storage import tables

    here = (tables.alias.c.model == model, tables.alias.c.alias == alias)
    previous = connection.execute(select(tables.alias.c.version).where(*here)).scalar()
    connection.execute(delete(tables.alias).where(*here))
    connection.execute(
        insert(tables.alias).values(model=model, alias=alias, version=version, since=at.timestamp())
    )
    connection.execute(
        insert(tables.alias_event).values(
            model=model,
            alias=alias,
            version=version,
            previous=previous,
            at=at.timestamp(),
            by=by,
            reason=reason,
        )
    )
    return events(connection, model, alias)[-1]


def previous_champion(model: str, history: Sequence[AliasChange]) -> int:
    """The version to roll back to.

    Promotions put a version on a stack; going back to the one below, by a rollback or a promotion, takes the
    top one off, so that repeated rollbacks go back step by step.

    Raises:
        NotFoundError: there is none.
    """
    stack: list[int] = []
    for change in history:
        if change.version is None or (stack and stack[-1] == change.version):
            continue
        if len(stack) > 1 and stack[-2] == change.version:
            stack.pop()
        else:
            stack.append(change.version)
    if len(stack) < 2:
        had = f"had no champion before version {stack[0]}" if stack else "has no champion"
        raise NotFoundError(f"{model} {had}", remedy="promote a version instead")
    return stack[-2]
