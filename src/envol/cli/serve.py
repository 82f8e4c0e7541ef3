"""`envol serve`: the prediction service."""

from __future__ import annotations

from typing import Annotated

import typer

from envol.cli.options import ProjectOption, opened


def serve(
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Address to listen at; [serve] host by default.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", help="Port; [serve] port by default, 0: a free one.", show_default=False
        ),
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Serve the champions over HTTP, until Ctrl-C.

    A promotion is followed without a restart.
    """
    import logging

    with opened(project) as (found, store):
        from envol.serving import serve as serve_project

        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("envol").setLevel(logging.INFO)  # of other libraries only warnings
        serve_project(found, store, host, port, announce=lambda line: print(line, flush=True))
