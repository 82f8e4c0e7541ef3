"""Envol: from a notebook to a machine-learning model in production that people can trust."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# Before anything loads OpenMP: its threads spin while they wait, and where other work wants the same cores a
# fit then takes seven times as long (docs/decisions/0002).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from envol.project.nodes import model, source, table, value  # noqa: E402
from envol.project.windows import Window  # noqa: E402

if TYPE_CHECKING:
    from envol.connection import Connection, connect

__all__ = ["Connection", "Window", "connect", "model", "source", "table", "value"]


def __getattr__(name: str) -> object:
    # `connect` is loaded when first used: a project's modules import only the decorators.
    if name in ("connect", "Connection"):
        from envol import connection

        return getattr(connection, name)
    raise AttributeError(f"module 'envol' has no attribute {name!r}")
