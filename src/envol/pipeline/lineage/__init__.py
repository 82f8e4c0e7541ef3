"""Lineage: what a window, a row or a model version was made from, by which run and with which code."""

from __future__ import annotations

from envol.pipeline.lineage.origins import Lineage, Materialization, ModelOrigin, RowLineage
from envol.pipeline.lineage.rows import row_lineage
from envol.pipeline.lineage.tracing import lineage, model_origin

__all__ = [
    "Lineage",
    "Materialization",
    "ModelOrigin",
    "RowLineage",
    "lineage",
    "model_origin",
    "row_lineage",
]
