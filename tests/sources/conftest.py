"""Windows, a project's folder, and the real servers that the connectors are tested against."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import REQUIRED, S3, Postgres, postgres_programs
from sources.mariadb import MARIADB_REQUIRED, MariaDb, mariadb_program

from envol.project.windows import Calendar, Period, Window

CALENDAR = Calendar("Europe/Paris")


@pytest.fixture
def day() -> Callable[[str], Window]:
    """A daily window in Paris by its key."""
    return lambda key: CALENDAR.parse(Period.DAY, key)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project, which is the current one."""
    (tmp_path / "envol.toml").write_text('[project]\nname = "small"\nstart = "2024-01-01"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    if postgres_programs() is None:
        assert not REQUIRED, "PostgreSQL is not installed"
        pytest.skip("PostgreSQL is not installed")
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    if mariadb_program() is None:
        assert not MARIADB_REQUIRED, "MariaDB is not installed"
        pytest.skip("MariaDB is not installed (apt install mariadb-server)")
    server = MariaDb()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    server = S3()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def s3_environment(s3: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server, with the variables that lead to it."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3
