"""`envol conductor`: keeps the project up to date as time passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from envol.cli.options import ProjectOption

if TYPE_CHECKING:
    from envol.log import Style

LogOption = Annotated[
    str,
    typer.Option(
        "--log", metavar="STYLE", help="How log lines look: pretty, or json with one object a line."
    ),
]
_SPARE_SECONDS = 15


def conductor(project: ProjectOption = None, log: LogOption = "pretty") -> int:
    """Keep the project up to date as time passes, until Ctrl-C.

    It makes each window when it falls due, trains again as the models say, tries again what failed, takes in
    edited code, and carries backfills on. One conductor of a project is active; others wait to take over.

    Ctrl-C (or SIGTERM) lets running tasks end, a second one ends them at once. Exit code 130: they were
    killed.
    """
    import logging
    import signal
    from types import FrameType

    from envol.errors import EnvolError
    from envol.family import end_with_supervisor
    from envol.log import log_lines
    from envol.pipeline import Conductor
    from envol.project import load_project
    from envol.project.clock import the_clock
    from envol.storage import PATIENCE, Store

    end_with_supervisor()
    log_lines("conductor", log_style(log))
    try:
        found = load_project(project)
        with Store.of(found, patience=PATIENCE) as store:
            one = Conductor(found, store, the_clock())

            def stop(_number: int, _frame: FrameType | None) -> None:
                # The kernel's timer, for a database that is away when it is to be told.
                signal.alarm(int(found.config.conductor.stop_timeout) + _SPARE_SECONDS)
                one.stop()

            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, stop)
            return one.conduct()
    except EnvolError as error:
        logging.getLogger("envol.conductor").error("%s", error)
        return error.exit_code


def log_style(text: str) -> Style:
    """The style that --log names.

    Raises:
        UserError: there is none of that name.
    """
    from envol.errors import UserError

    if text == "json":
        return "json"
    if text == "pretty":
        return "pretty"
    raise UserError(f"there is no log style {text!r}", remedy="write --log pretty or --log json")
