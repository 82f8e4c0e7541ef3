"""Servers that tests of several rooms share, and where the projects of a test are stored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import REQUIRED, S3, Postgres, postgres_programs


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests of the session; none may stop it."""
    if postgres_programs() is None:
        assert not REQUIRED, "ENVOL_TEST_POSTGRES=required, and PostgreSQL is not installed"
        pytest.skip("PostgreSQL is not installed (on Debian: apt install postgresql)")
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server for all tests of the session; none may stop it."""
    server = S3()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(params=["sqlite", "postgres"])
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The test runs on both: what opens `Store.of(project)`, here or in a child, finds an empty database."""
    if request.param == "sqlite":
        monkeypatch.delenv("ENVOL_STORAGE_URL", raising=False)
        yield "sqlite"
        return
    with request.getfixturevalue("postgres").empty_database() as url:
        monkeypatch.setenv("ENVOL_STORAGE_URL", url)
        yield "postgres"


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new bucket, which the variables of the test lead to."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.new_bucket()
