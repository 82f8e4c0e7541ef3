"""`envol pause`, `resume`, `wake`, `retrain` and `cancel`: what one asks of a conductor or a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from envol.cli.options import ByOption, ProjectOption, ReasonOption, opened, said, who

if TYPE_CHECKING:
    from envol.pipeline import Control
    from envol.storage import Store

_NOBODY = "; none is active: start one with envol up"


def pause(
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why, for whoever looks.", show_default=False)
    ] = "",
    by: ByOption = None,
    project: ProjectOption = None,
) -> None:
    """Let the conductor end its running tasks, and begin nothing until it is resumed.

    It also holds for conductors that are started later.
    """
    with opened(project) as (_, store):
        _control(store).pause(who(by), reason.strip())
        print(f"paused, until: envol resume{_nobody(store)}")


def resume(by: ByOption = None, project: ProjectOption = None) -> None:
    """Let the conductor go on after a pause."""
    with opened(project) as (_, store):
        was_paused = _control(store).resume(who(by))
        print(f"{'resumed' if was_paused else 'it was not paused'}{_nobody(store)}")


def wake(by: ByOption = None, project: ProjectOption = None) -> None:
    """Let the conductor look at once what is to do, and try again what has failed."""
    with opened(project) as (_, store):
        _control(store).wake(who(by))
        print(f"the conductor is to look at once{_nobody(store)}")


def retrain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    reason: ReasonOption,
    by: ByOption = None,
    project: ProjectOption = None,
) -> None:
    """Let the conductor train a model on the newest data, besides the trainings by its `every`."""
    from envol.errors import NotFoundError
    from envol.project.names import nearest
    from envol.project.nodes import Model

    with opened(project) as (found, store):
        models = [node.name for node in found.graph.of(Model)]
        if model not in models:
            told = nearest(model, models) if models else "the project declares none"
            raise NotFoundError(f"no model is called {model!r}", remedy=told)
        _control(store).retrain(model, who(by), said(reason))
        print(f"{model} is to be trained on the newest data{_nobody(store)}")


def cancel(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run by its id or the start of it; the active one."),
    ] = None,
    by: ByOption = None,
    project: ProjectOption = None,
) -> None:
    """End a run: its running tasks end, nothing else of it begins, and what it made is kept.

    The conductor makes what is left when something falls due next, or when it is woken; to keep it from that:
    envol pause.
    """
    from envol.cli.history import LAST, find_run
    from envol.errors import NotFoundError

    with opened(project) as (_, store):
        one = find_run(store, run or LAST)
        name = one["run"]
        if one["state"] != "running" or not _control(store).cancel(name, who(by)):
            what = f"the run {name}" if run else "the last run"
            raise NotFoundError(f"{what} is not running", remedy="all runs: envol runs")
        print(f"run {name} is cancelled: it ends once its running tasks have ended")


def _control(store: Store) -> Control:
    from envol.pipeline import Control
    from envol.project.clock import the_clock

    return Control(store.metadata, the_clock())


def _nobody(store: Store) -> str:
    from envol.pipeline import conductors

    return "" if conductors(store.metadata).active else _NOBODY
