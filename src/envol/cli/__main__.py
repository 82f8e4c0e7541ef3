"""`python -m envol.cli`: the command line where the script `envol` is not on the path."""

from __future__ import annotations

from envol.cli import main

if __name__ == "__main__":
    main()
