"""Fixtures of the pipeline's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_project import SmallProject


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., SmallProject]:
    """Writes a project: `project(module, config)`; a name tells several apart."""

    def make(module: str, config: str = "", name: str = "project") -> SmallProject:
        return SmallProject(tmp_path / name).write(module, config)

    return make
