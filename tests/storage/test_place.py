"""Where `[storage]` and its variables say that a project is kept, and what they may not say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Postgres

from envol.errors import ConfigError, StorageError
from envol.project import load_project
from envol.storage import Lake, Place, Store
from envol.storage.place import Database

CONFIG = '[project]\nname = "{name}"\nstart = "2024-01-01"\n\n[storage]\n{storage}\n'


def place(root: Path, storage: str, name: str = "pumps") -> Place:
    (root / "envol.toml").write_text(CONFIG.format(name=name, storage=storage))
    return Store.of(load_project(root)).place


def test_a_folder_a_database_and_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place(tmp_path, "") == Place(tmp_path / ".envol")
    assert place(tmp_path, 'path = "data"') == Place(tmp_path / "data")
    url, database = "postgresql://me@host/base", Database("postgresql://me@host/base", "pumps")
    assert place(tmp_path, f'url = "{url}"') == Place(tmp_path / ".envol", database)
    monkeypatch.setenv("ENVOL_STORAGE_URL", url)
    monkeypatch.setenv("ENVOL_STORAGE_DATA", "s3://bucket/prefix/")
    shared = place(tmp_path, 'url = "postgresql://another/one"')
    assert shared == Place(tmp_path / ".envol", database, "s3://bucket/prefix/pumps")
    assert (database.schema, database.lake_schema) == ("envol_pumps", "lake_pumps")


@pytest.mark.parametrize(
    ("storage", "told"),
    [
        ('url = "postgresql://me:hush@host/base"', "PGPASSWORD"),
        ('url = "postgresql://host/base?user=me&password=hush"', "PGPASSWORD"),
        ('url = "mysql://me@host/hush"', "begins with 'mysql'"),
        ('data = "/hush"', "s3://bucket/prefix"),
        ('data = "s3://"', "s3://bucket/prefix"),
    ],
)
def test_what_is_no_place_is_refused_and_no_password_shown(tmp_path: Path, storage: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        place(tmp_path, storage)
    assert "envol.toml:" in str(caught.value)
    assert "hush" not in str(caught.value) or "password" not in storage + told


def test_a_password_in_a_variable_is_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVOL_STORAGE_URL", "postgresql://me:hush@host/base")
    with pytest.raises(ConfigError, match="PGPASSWORD") as caught:
        place(tmp_path, "")
    assert "hush" not in str(caught.value)


def test_a_name_that_is_too_long_for_a_schema_is_refused(tmp_path: Path) -> None:
    longest = "é" * 28
    assert place(tmp_path, 'url = "postgresql://host/base"', longest).database is not None
    with pytest.raises(ConfigError, match="too long for a schema"):
        place(tmp_path, 'url = "postgresql://host/base"', f"{longest}é")
    assert place(tmp_path, "", f"{longest}é").database is None


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    with postgres.empty_database() as url:
        yield url


def test_names_of_projects_are_names_of_schemas_whatever_they_hold(tmp_path: Path, url: str) -> None:
    name = 'Bob\'s "odd" project; DROP é'
    for _ in range(2):  # made, then found
        with Store(Place(tmp_path, Database(url, name))) as store:
            assert store.lake.tables() == []
            with store.metadata.connect():
                assert store.exists()


@pytest.mark.parametrize(
    ("change", "told", "remedy"),
    [
        (lambda url: url.replace("envol@", "nobody@"), "no such database or user", "createuser"),
        (lambda url: f"{url}?sslmode=require", "do not agree on TLS", "sslmode"),
    ],
)
def test_a_lake_tells_what_the_server_refuses(  # type: ignore[no-untyped-def]
    tmp_path: Path, url: str, change, told: str, remedy: str
) -> None:
    with pytest.raises(StorageError, match=told) as caught:
        Lake(Place(tmp_path, Database(change(url), "test")), patience=100)
    assert remedy in str(caught.value)


def test_a_lake_tells_which_right_is_missing(tmp_path: Path, url: str, postgres: Postgres) -> None:
    postgres.execute("CREATE ROLE weak LOGIN")
    try:
        with pytest.raises(StorageError, match="the user may not do that") as caught:
            Lake(Place(tmp_path, Database(url.replace("envol@", "weak@"), "test")), patience=100)
        assert "GRANT CREATE ON DATABASE" in str(caught.value)
    finally:
        postgres.execute("DROP ROLE weak")
