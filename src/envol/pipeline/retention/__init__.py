"""Retention: records that have served their time go, so that a project's store stays bounded."""

from __future__ import annotations

from envol.pipeline.retention.collecting import Collected, collect, collect_daily
from envol.pipeline.retention.sizes import Part, sizes

__all__ = ["Collected", "Part", "collect", "collect_daily", "sizes"]
