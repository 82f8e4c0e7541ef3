"""Fixtures of rooms that test with small projects, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Postgres
from small_project import SmallProject


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., SmallProject]:
    """Writes a project: `project(module, config)`; a name tells several apart."""

    def make(module: str, config: str = "", name: str = "project") -> SmallProject:
        return SmallProject(tmp_path / name).write(module, config)

    return make


@pytest.fixture(scope="session")
def made(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The url of a database in which a project called "project" has an empty store; only to be copied."""
    url = postgres.new_database()
    small = SmallProject(tmp_path_factory.mktemp("made") / "project").write("", f'[storage]\nurl = "{url}"\n')
    with small.store() as store:
        store.metadata, store.lake  # noqa: B018 - made when first used
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As that of all tests, but on PostgreSQL the store is there already, which takes less time."""
    if request.param == "sqlite":
        monkeypatch.delenv("ENVOL_STORAGE_URL", raising=False)
        yield "sqlite"
        return
    postgres, made = request.getfixturevalue("postgres"), request.getfixturevalue("made")
    with postgres.copy_of(made) as url:
        monkeypatch.setenv("ENVOL_STORAGE_URL", url)
        yield "postgres"
