"""What the user writes: configuration, nodes, windows, graph, contracts."""

from __future__ import annotations

from envol.project.loading import Project, load_project

__all__ = ["Project", "load_project"]
