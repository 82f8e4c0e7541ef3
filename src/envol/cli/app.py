"""The verbs put together, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from envol.cli import (
    backfill,
    check,
    conductor,
    contract,
    data,
    gc,
    lineage,
    models,
    move,
    new,
    pause,
    plan,
    quarantine,
    run,
    runs,
    serve,
    status,
    up,
)
from envol.errors import EnvolError

INTERRUPTED = 130
PIPE_CLOSED = 141  # what a shell reports for a process that SIGPIPE ended
DEBUG = "ENVOL_DEBUG"

# Plain help: Typer's Rich help takes 0.2 s to import, more than everything else together.
app = typer.Typer(
    name="envol",
    help="From a notebook to a machine-learning model in production that people can trust.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    subcommand_metavar="VERB ...",
)


def _examples(*lines: str) -> str:
    """An epilog that the help formatter leaves as it is."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def _group(name: str, help: str) -> typer.Typer:
    """A verb that has verbs of its own."""
    group = typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        subcommand_metavar="VERB ...",
    )
    app.add_typer(group, name=name, help=help)
    return group


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"envol {version('envol')}")
        raise typer.Exit


@app.callback(
    epilog=_examples(
        "envol new flights     start a project",
        "envol check           validate it without running it",
        "envol run             make every window that is due",
        "envol run --help      more about a verb",
        "",
        "Any verb takes --debug, or ENVOL_DEBUG=1: it shows where an error comes from.",
    )
)
def _envol(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and end."),
    ] = False,
) -> None:
    pass  # the options above are all there is to it


app.command("new", epilog=_examples("envol new flights", "envol new flights --path ~/projects"))(new.new)
app.command("check", epilog=_examples("envol check", "envol check -p examples/flights --json"))(check.check)
app.command(
    "plan", epilog=_examples("envol plan", "envol plan --node departures --windows", "envol plan --json")
)(plan.plan)
app.command(
    "run",
    epilog=_examples(
        "envol run",
        "envol run --node departures             only this node and what it is made from",
        "envol run --node departures --rerun     again although nothing changed",
        "envol run --from 2013-01-01 --to 2013-02-01",
        "envol run --json > result.json          progress goes to stderr",
    ),
)(run.run)
app.command(
    "backfill",
    epilog=_examples(
        "envol backfill --from 2013-01-01 --to 2013-02-01",
        "envol backfill --from 2013-01-01 --to 2013-02-01 --node flights --rerun --dry-run",
        "envol backfill --list",
        "envol backfill --resume 20240105T0300",
    ),
)(backfill.backfill)
app.command(
    "accept",
    epilog=_examples(
        'envol accept --reason "only the comments of the report changed"',
        'envol accept --node departures --to 2013-06-01 --reason "from June on only"',
    ),
)(backfill.accept)
app.command(
    "up",
    epilog=_examples(
        "envol up                    conductor and service, until Ctrl-C",
        "envol up --port 8001 --log json > up.log",
        "envol up --no-serve",
    ),
)(up.up)
app.command("conductor", epilog=_examples("envol conductor", "envol conductor --log json"))(
    conductor.conductor
)
app.command("pause", epilog=_examples("envol pause", 'envol pause --reason "the database is being moved"'))(
    pause.pause
)
app.command("resume", epilog=_examples("envol resume"))(pause.resume)
app.command("wake", epilog=_examples("envol wake     the server that failed is back"))(pause.wake)
app.command("retrain", epilog=_examples('envol retrain delay_risk --reason "the mix of carriers changed"'))(
    pause.retrain
)
app.command("cancel", epilog=_examples("envol cancel     the active run", "envol cancel 20240105T0300"))(
    pause.cancel
)
app.command("status", epilog=_examples("envol status", "envol status --json"))(status.status)
app.command(
    "runs",
    epilog=_examples(
        "envol runs                                      the last runs",
        "envol runs last                                 the tasks of the last one",
        "envol runs last --failed --log                  errors and logs of what failed",
        "envol runs last --node flights --window 2013-01-05 --log",
    ),
)(runs.runs)
app.command(
    "models",
    epilog=_examples(
        "envol models                          all versions",
        "envol models delay_risk               one model and the history of its aliases",
        "envol models delay_risk champion      one version in full",
        "envol models delay_risk 3 --card      its model card, in Markdown",
    ),
)(models.models)
app.command(
    "promote",
    epilog=_examples(
        'envol promote delay_risk 3 --reason "better in every month"',
        'envol promote delay_risk 4 --alias challenger --reason "to be compared"',
    ),
)(models.promote)
app.command("rollback", epilog=_examples('envol rollback delay_risk --reason "alerts doubled"'))(
    models.rollback
)
app.command("serve", epilog=_examples("envol serve", "envol serve --host 0.0.0.0 --port 8001"))(serve.serve)
app.command(
    "query",
    epilog=_examples(
        'envol query "select * from flights limit 5"',
        'envol query "select window_start, count(*) as n from flights group by all order by all" --csv',
    ),
)(data.query)
app.command(
    "lineage",
    epilog=_examples(
        "envol lineage delay_risk_predictions --window 2013-07-04",
        "envol lineage delay_risk_predictions --window 2013-07-04 --key flight_id=123",
        "envol lineage delay_risk                       the newest training",
        "envol lineage --prediction 0190a3c2-...        an answer of the service",
        "envol lineage departures --send http://localhost:5000",
    ),
)(lineage.lineage)
app.command("gc", epilog=_examples("envol gc --dry-run", "envol gc", "envol gc --json"))(gc.gc)
app.command("compact", epilog=_examples("envol compact", "envol compact --expire 30d"))(data.compact)
app.command(
    "move",
    epilog=_examples(
        "envol move --to postgresql://envol@storage/envol --data s3://envol",
        "envol move --to .envol                         back into a folder",
    ),
)(move.move)

_quarantine = _group("quarantine", "Rows that broke a contract: look at them, and decide about them.")
_quarantine.command(
    "list",
    epilog=_examples(
        "envol quarantine list                              all tables and windows, counted",
        "envol quarantine list flights --window 2013-01-05  the rows",
    ),
)(quarantine.show)
_quarantine.command(
    "export",
    epilog=_examples(
        "envol quarantine export flights > rows.csv",
        'envol quarantine export flights --rule "delay: min" -o rows.parquet',
    ),
)(quarantine.export)
_quarantine.command(
    "replay", epilog=_examples('envol quarantine replay flights rows.csv --reason "minutes, not seconds"')
)(quarantine.replay)
_quarantine.command(
    "release",
    epilog=_examples(
        'envol quarantine release flights --window 2013-01-05 --reason "a real storm"',
        'envol quarantine release flights --id 2013-01-05/3fa9c2d17b60aa12 --reason "checked by phone"',
    ),
)(quarantine.release)
_quarantine.command(
    "drop", epilog=_examples('envol quarantine drop flights --rule primary_key --reason "sent twice"')
)(quarantine.drop)
_quarantine.command(
    "undo",
    epilog=_examples(
        'envol quarantine undo flights --id 2013-01-05/3fa9c2d17b60aa12 --reason "the wrong row"'
    ),
)(quarantine.undo)
_quarantine.command("history", epilog=_examples("envol quarantine history flights"))(quarantine.history)

_contract = _group("contract", "Contracts: what tables hold, and what is to be true of them.")
_contract.command(
    "suggest",
    epilog=_examples("envol contract suggest flights", "envol contract suggest flights --from 2013-01-01"),
)(contract.suggest)
_contract.command("check", epilog=_examples("envol contract check flights"))(contract.check)
_contract.command("changes", epilog=_examples("envol contract changes", "envol contract changes flights"))(
    contract.changes
)


def start(arguments: Sequence[str]) -> int:
    """Carry out one command line; returns the exit code."""
    debug = "--debug" in arguments or os.environ.get(DEBUG, "0") not in ("", "0")
    try:
        code = _carry_out([word for word in arguments if word != "--debug"])
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _silence_stdout()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except typer.Exit as exit:
        return exit.exit_code
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        return _explain(error)


def _carry_out(arguments: list[str]) -> int:
    """Parse and call. A verb is called past its group, whose parsing would load Pydantic (0.1 s)."""
    command = get_command(app)
    name = "envol"
    verbs = getattr(command, "commands", {})
    if arguments and arguments[0] in verbs:
        command, name, arguments = verbs[arguments[0]], f"envol {arguments[0]}", arguments[1:]
    if not arguments and hasattr(command, "commands"):
        arguments = ["--help"]
    with command.make_context(name, arguments) as context:
        code = command.invoke(context)
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> int:
    if isinstance(error, EnvolError):
        _complain(f"error: {error}")
        return error.exit_code
    usage = getattr(error, "format_message", None)
    if usage is not None:
        context = getattr(error, "ctx", None)
        _complain(f"error: {usage()}\n  -> see: {context.command_path if context else 'envol'} --help")
        return int(getattr(error, "exit_code", 2))
    _complain(
        f"error: unexpected {type(error).__name__}: {error}\n"
        f"  -> run it again with {DEBUG}=1 to see where, and report it"
    )
    return 1


def _complain(text: str) -> None:
    """Print to stderr, the first line in red where that is a terminal with colours."""
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        first, newline, rest = text.partition("\n")
        text = f"\x1b[31m{first}\x1b[0m{newline}{rest}"
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        pass  # nobody is left to tell


def _silence_stdout() -> None:
    """Nobody reads any more: what is still buffered must not raise when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
