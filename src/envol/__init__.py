"""Envol: from a notebook to a machine-learning model in production that people can trust."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

# Before anything loads OpenMP (that of GCC, which scikit-learn brings): its threads spin for long while they
# wait, and a fit beside other work then takes nine times as long. With a short spin, and the same one
# however many threads have used OpenMP, a fit alone is as quick as ever (docs/decisions/0002).
if "OMP_WAIT_POLICY" not in os.environ and "GOMP_SPINCOUNT" not in os.environ:
    os.environ |= {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "1000"}

from envol.project.nodes import model, source, table, value  # noqa: E402
from envol.project.windows import Window  # noqa: E402

if TYPE_CHECKING:
    from envol import sources
    from envol.connection import Connection, connect

__all__ = ["Connection", "Window", "connect", "model", "source", "sources", "table", "value"]


def __getattr__(name: str) -> object:
    # These are loaded when first used: a project's modules import only the decorators.
    if name == "sources":
        return import_module("envol.sources")
    if name in ("connect", "Connection"):
        from envol import connection

        return getattr(connection, name)
    raise AttributeError(f"module 'envol' has no attribute {name!r}")
