"""The command line: `envol VERB`. Thin: parse, call the rooms below, print."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `envol` command; ends the process with its exit code.

    0: done, 1: something failed, 2: the project or the call is to be put right, 130: interrupted.
    """
    from envol.cli.app import start

    sys.exit(start(sys.argv[1:]))
