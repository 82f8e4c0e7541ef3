"""Tasks that need isolation run in processes of their own, where a crash, a hang or a lack of memory is a
failed task and no more.

The processes stay warm from task to task. Tables go there and back as Arrow files, requests and answers over
a socket; what the user's code writes to its standard output and error goes to the task's log.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from envol.pipeline.isolation.pool import Isolation
from envol.project import Project
from envol.project.nodes import Model, Node
from envol.project.windows import Window

if TYPE_CHECKING:
    from envol.training import Trained

__all__ = ["Isolation", "compute_apart", "train_apart"]


def compute_apart(
    project: Project, node: Node, frames: Mapping[str, pl.DataFrame], window: Window
) -> pl.DataFrame:
    """One task in a process of its own; a run keeps an `Isolation` instead."""
    with Isolation(project) as isolation:
        made = isolation.compute(node, frames, window)
        return made if isinstance(made, pl.DataFrame) else pl.concat(made)


def train_apart(
    project: Project, node: Model, features: pl.DataFrame, labels: pl.DataFrame, cutoff: datetime
) -> Trained:
    """One training in a process of its own."""
    with Isolation(project) as isolation:
        return isolation.train(node, features, labels, cutoff)
