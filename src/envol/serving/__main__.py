"""`python -m envol.serving PROJECT`: the service without the command line's other verbs."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from envol.errors import EnvolError
from envol.family import end_with_supervisor
from envol.log import log_lines
from envol.project import load_project
from envol.serving.server import serve
from envol.storage import PATIENCE, Store

logger = logging.getLogger("envol.serving")


def main() -> int:
    """Serve until a signal; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m envol.serving", description=__doc__)
    parser.add_argument("project", type=Path, help="folder of envol.toml")
    parser.add_argument("--host", help="address to listen at")
    parser.add_argument("--port", type=int, help="port to listen at; 0 takes a free one")
    parser.add_argument("--ready-file", type=Path, help="gets the address and the process id as JSON")
    parser.add_argument("--log", choices=["pretty", "json"], default="pretty", help="how log lines look")
    given = parser.parse_args()
    end_with_supervisor()
    log_lines("service", given.log)
    try:
        project = load_project(given.project)
        with Store.of(project, patience=PATIENCE) as store:
            serve(
                project,
                store,
                given.host,
                given.port,
                ready_file=given.ready_file,
                announce=logger.info,
            )
    except EnvolError as error:
        logger.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
