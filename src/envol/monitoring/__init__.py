"""Watch what runs: how good predictions were once the truth is known."""

from __future__ import annotations

from envol.monitoring.performance import Performance, performance

__all__ = ["Performance", "performance"]
