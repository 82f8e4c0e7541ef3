"""Projects on a storage that tests may take away from them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Postgres, postgres_programs
from stored_projects import made, project, storage

__all__ = ["made", "mortal", "on_mortal", "project", "storage"]


@pytest.fixture(scope="session")
def mortal(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A PostgreSQL server that keeps what it has acknowledged, and that tests may stop and kill."""
    if postgres_programs() is None:
        request.getfixturevalue("postgres")  # which skips, or fails
    server = Postgres(durable=True)
    server.start()
    yield server
    server.close()


@pytest.fixture
def on_mortal(mortal: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """The test's projects are kept on that server."""
    monkeypatch.setenv("ENVOL_STORAGE_URL", mortal.new_database())
    return mortal
