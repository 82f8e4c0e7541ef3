"""Options that verbs share, and the project they are about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from envol.project import Project
    from envol.storage import Store

ProjectOption = Annotated[
    Path | None,
    typer.Option(
        "--project",
        "-p",
        metavar="PATH",
        help="The project's folder; the current one, or the nearest above with an envol.toml.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
NodesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--node",
        "-n",
        metavar="NODE",
        help="Only this node and what it is made from; may be given several times.",
        show_default=False,
    ),
]

FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="DATE",
        help="Only windows that start then or later, for example 2013-01-01.",
        show_default=False,
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="DATE", help="Only windows that start before.", show_default=False),
]
ReasonOption = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.", show_default=False)]
ByOption = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who decided it; the system's user when left out."),
]


@contextmanager
def opened(path: Path | None) -> Iterator[tuple[Project, Store]]:
    """The project and its store, which is closed at the end of the block."""
    from envol.project import load_project
    from envol.storage import Store

    project = load_project(path)
    with Store.of(project) as store:
        yield project, store


def who(by: str | None) -> str:
    """Who decides something: the one named, or the system's user."""
    import getpass

    from envol.errors import UserError

    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise UserError("the system has no name for this user", remedy="say who decides: --by NAME") from None


def said(reason: str) -> str:
    """The reason that was given, which must not be empty."""
    from envol.errors import UserError

    if not reason.strip():
        raise UserError("the reason is empty", remedy='say why: --reason "better in every month"')
    return reason.strip()


def span_of(project: Project, first: str | None, last: str | None) -> tuple[datetime | None, datetime | None]:
    """The instants of --from and --to in the project's time zone."""
    from envol.errors import UserError

    start, end = (None if text is None else project.calendar.instant(text) for text in (first, last))
    if start is not None and end is not None and end.timestamp() <= start.timestamp():
        raise UserError(f"--to {last} is not after --from {first}", remedy="give a range with a window in it")
    return start, end
