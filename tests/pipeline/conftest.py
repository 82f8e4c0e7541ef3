"""Fixtures of the pipeline's tests."""

from __future__ import annotations

from stored_projects import made, project, storage

__all__ = ["made", "project", "storage"]
