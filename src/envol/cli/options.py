"""Options that verbs share, and the project they are about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
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


@contextmanager
def opened(path: Path | None) -> Iterator[tuple[Project, Store]]:
    """The project and its store, which is closed at the end of the block."""
    from envol.project import load_project
    from envol.storage import Store

    project = load_project(path)
    with Store.of(project) as store:
        yield project, store
