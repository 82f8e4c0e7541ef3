"""Projects for the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.machines import LONE, WHOLE, Project, Said


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project of one source that was not run yet."""
    return Project(tmp_path / "project").write(LONE)


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Said]:
    """A project with a model that was run once, and what that run printed; not to be changed."""
    whole = Project(tmp_path_factory.mktemp("ran") / "machines").write(WHOLE)
    return whole, whole.command("run")
