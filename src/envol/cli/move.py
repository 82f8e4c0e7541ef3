"""`envol move`: a project's store to another place, with all that was compared."""

from __future__ import annotations

import os
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envol.cli.options import JsonOption, ProjectOption, opened
from envol.cli.output import console, duration, print_json, table

if TYPE_CHECKING:
    from envol.project import Project
    from envol.storage import Place
    from envol.storage.records import Compared

LINE_SECONDS = 5.0
TICK_SECONDS = 0.1


def move(
    to: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="PostgreSQL for metadata and catalog (postgresql://user@host/database), or a folder.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="S3",
            help="S3 for tables and artifacts (s3://bucket/prefix); else the folder.",
            show_default=False,
        ),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the new place into envol.toml.")] = False,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Copy tables, metadata and models to another place, with their history.

    All of it is compared before it counts, and the old place stays as it is. No run and no conductor may be
    active. Cut off at any moment, the same command begins again.
    """
    from envol.pipeline import Lease, run_lease
    from envol.storage.moving import move as carry_out

    with opened(project) as (loaded, source):
        settings, target = _target(loaded, to, data)
        text = _changed(loaded.root / "envol.toml", settings) if write else ""
        began = time.monotonic()
        progress = Progress()
        conductor = Lease(source.metadata, "conductor", "a conductor is active on this project")
        with conductor.held(), run_lease(source.metadata).held():
            compared = carry_out(source, target, progress)
        progress.end()
        seconds = time.monotonic() - began
        if write:
            _replace(loaded.root / "envol.toml", text)
    if json:
        print_json({"compared": compared, "storage": settings, "written": write, "seconds": seconds})
    else:
        _print(compared, settings, write, seconds)


class Progress:
    """Says how far it is, to stderr: on a terminal in one line, in a log now and then."""

    def __init__(self) -> None:
        self._lively = sys.stderr.isatty()
        self._told = 0.0
        self._width = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told < (TICK_SECONDS if self._lively else LINE_SECONDS):
            return
        self._told = now
        line = f"{what}: {done:,} of {total:,}"
        if self._lively:
            sys.stderr.write(f"\r{line.ljust(self._width)}")
            self._width = len(line)
        else:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {line}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Clear the line."""
        if self._width:
            sys.stderr.write(f"\r{' ' * self._width}\r")


def _target(project: Project, to: str, data: str | None) -> tuple[dict[str, str], Place]:
    """What [storage] is to say, and the place that means."""
    from envol.errors import UserError
    from envol.project.config import StorageSection
    from envol.storage import Place

    settings = {"url": to} if "://" in to else {"path": to}
    if project.config.storage.path != StorageSection().path:
        settings = {"path": project.config.storage.path, **settings}
    if data is not None:
        settings["data"] = data
    try:
        section = StorageSection(**settings)
    except ValueError as error:
        raise UserError(f"--to or --data: {error}", remedy="see: envol move --help") from None
    return settings, Place.at(project, section)


def _print(compared: Sequence[Compared], settings: dict[str, str], written: bool, seconds: float) -> None:
    out = console()
    shown = table("what", "name", "counted", "source", "target", "equal", right=("source", "target"))
    for one in compared:
        shown.add_row(one.part, one.name, one.counted, f"{one.source:,}", f"{one.target:,}", "yes")
    out.print(shown)
    out.print(f"\nmoved and compared in {duration(seconds)}; the old place stays as it is")
    for variable in sorted(name for name in os.environ if name.startswith("ENVOL_STORAGE_")):
        out.print(f"{variable} is set and goes before envol.toml: change it as well")
    if written:
        out.print("envol.toml names the new place. Start services and conductors again.")
        return
    out.print("put this into envol.toml, and start services and conductors again:\n\n[storage]")
    for key, value in settings.items():
        out.print(f'{key} = "{value}"', soft_wrap=True)


def _changed(path: Path, settings: dict[str, str]) -> str:
    """The text of envol.toml with other values under [storage], all else as it is.

    Raises:
        UserError: it is written in a way that cannot be changed line by line.
    """
    from envol.errors import UserError
    from envol.project.toml_lines import TomlLines

    text = path.read_text(encoding="utf-8")
    data = tomllib.loads(text)
    old: dict[str, Any] = data.get("storage", {})
    where = TomlLines(text)
    lines = text.splitlines()
    assignments = [f'{key} = "{value}"' for key, value in settings.items()]
    if "storage" in data:
        gone = {where.of("storage", key) for key in ("path", "url", "data") if key in old}
        header = where.of("storage")
        kept = [line for number, line in enumerate(lines, 1) if number not in gone and number <= header]
        rest = [line for number, line in enumerate(lines, 1) if number not in gone and number > header]
        lines = [*kept, *assignments, *rest]
    else:
        lines += ["", "[storage]", *assignments]
    changed = "\n".join(lines) + "\n"
    try:
        if tomllib.loads(changed) == {**data, "storage": settings}:
            return changed
    except tomllib.TOMLDecodeError:
        pass
    raise UserError(f"{path.name} cannot be changed line by line", remedy="leave out --write")


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
