"""`envol up`: everything of a project at work, under one supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from envol.cli.conductor import LogOption, log_style
from envol.cli.options import ProjectOption

if TYPE_CHECKING:
    from pathlib import Path

_SPARE_SECONDS = 30


def up(
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Leave the service out.")] = False,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Where the service listens; [serve] host by default.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", help="Its port; [serve] port by default, 0: a free one.", show_default=False
        ),
    ] = None,
    project: ProjectOption = None,
    log: LogOption = "pretty",
) -> int:
    """Run the project: its conductor, and the service where it has a model, until Ctrl-C.

    A part that dies is started again. One Ctrl-C (or SIGTERM) ends all: running tasks and requests end first.
    A second one ends them at once.

    Exit code 0: ended as asked; 1: something had to be killed; 2: the project or the call is to be put right.
    """
    import sys

    from envol.log import Entry, as_json, as_text, has_colours
    from envol.project import load_project
    from envol.supervisor import Part, Supervisor, python

    style, colours = log_style(log), has_colours(sys.stdout)
    found = load_project(project)
    root = str(found.root)
    parts = [Part("conductor", python("envol.cli", "conductor", "--project", root, "--log", "json"))]
    if not no_serve and _has_model(found.root):
        where = [*(["--host", host] if host else []), *(["--port", str(port)] if port is not None else [])]
        parts.append(Part("service", python("envol.serving", root, "--log", "json", *where)))

    def write(line: Entry) -> None:
        print(as_json(line) if style == "json" else as_text(line, colours=colours), flush=True)

    names = " and ".join(part.name for part in parts)
    if style == "pretty":
        print(f"{found.name}: {names}, until Ctrl-C; how it stands: envol status", flush=True)
    return Supervisor(parts, write, grace=found.config.conductor.stop_timeout + _SPARE_SECONDS).run()


def _has_model(root: Path) -> bool:
    """Whether a project declares a model; also where it cannot be loaded, as versions may be registered.

    Another process looks, so that this one never runs the project's code.
    """
    import json
    import subprocess

    from envol.supervisor import python

    command = python("envol.cli", "check", "--project", str(root), "--json")
    checked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if checked.returncode != 0:
        return True
    return any(node["kind"] == "model" for node in json.loads(checked.stdout)["nodes"])
