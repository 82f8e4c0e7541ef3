"""What PostgreSQL may refuse, said clearly and without any password."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Postgres
from sqlalchemy import insert, select

from envol.errors import StorageError, UserError
from envol.storage import Lake, Metadata, Place, Store, UnreachableError, tables
from envol.storage.place import Database

EVENT = {"model": "delay_risk", "alias": "champion", "at": 1.0, "by": "me", "reason": "better"}
PASSWORD = "swordfish"


def opened(url: str, project: str = "test", patience: float = 0.5) -> Metadata:
    return Store(Place(Path("unused"), Database(url, project)), patience=patience).metadata


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    with postgres.empty_database() as url:
        yield url


@pytest.fixture
def role(postgres: Postgres, url: str) -> Iterator[str]:
    """The url with a user who may not do anything, and needs a password."""
    postgres.execute(f"CREATE ROLE {postgres.guarded} LOGIN PASSWORD '{PASSWORD}'")
    name = url.rpartition("/")[2]
    yield postgres.url(name, postgres.guarded)
    postgres.execute(f"DROP OWNED BY {postgres.guarded} CASCADE", name)
    postgres.execute(f"REVOKE ALL ON DATABASE {name} FROM {postgres.guarded}")
    postgres.execute(f"DROP ROLE {postgres.guarded}")


def test_projects_share_a_database_and_see_nothing_of_each_other(url: str) -> None:
    one, other = opened(url, "one"), opened(url, 'the "other" project')
    with one.begin() as connection:
        connection.execute(insert(tables.alias_event), EVENT)
    with other.connect() as connection:
        assert connection.execute(tables.alias_event.select()).all() == []
    with opened(url, "one").connect() as connection:
        assert len(connection.execute(tables.alias_event.select()).all()) == 1


@pytest.mark.parametrize(
    ("password", "told"), [(None, "asks for a password"), ("guess", "the password is wrong")]
)
def test_a_password_is_asked_for_and_never_shown(
    role: str, password: str | None, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    if password:
        monkeypatch.setenv("PGPASSWORD", password)
    with pytest.raises(StorageError, match=told) as caught:
        opened(role)
    assert "PGPASSWORD" in str(caught.value) and "guess" not in str(caught.value)


def test_a_password_is_taken_from_the_environment_or_a_file(
    postgres: Postgres, role: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    postgres.execute(f"GRANT CREATE ON DATABASE {role.rpartition('/')[2]} TO {postgres.guarded}")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    opened(role).close()
    monkeypatch.delenv("PGPASSWORD")
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:*:*:{PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    opened(role).close()


def test_a_text_with_nul_is_kept_without_it(url: str) -> None:
    metadata = opened(url)
    metadata.write(lambda to: to.execute(insert(tables.alias_event), {**EVENT, "reason": "a\0b é"}) and None)
    query = select(tables.alias_event.c.reason, tables.alias_event.c.by)
    assert metadata.read(lambda found: found.execute(query).one()) == ("a\ufffdb é", "me")


def test_rights_that_are_missing_are_named(
    postgres: Postgres, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with pytest.raises(StorageError, match="permission denied for database") as caught:
        opened(role)
    assert "GRANT CREATE ON DATABASE" in str(caught.value)
    database = role.rpartition("/")[2]
    postgres.execute(f"CREATE SCHEMA envol_test AUTHORIZATION {postgres.guarded}", database)
    metadata = opened(role)  # a schema that was made for the user is enough
    postgres.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA envol_test FROM {postgres.guarded}", database)
    postgres.execute("ALTER TABLE envol_test.alias_event OWNER TO envol", database)
    with pytest.raises(StorageError, match="permission denied for table"), metadata.begin() as connection:
        connection.execute(insert(tables.alias_event), EVENT)
    metadata.close()


@pytest.mark.parametrize(
    ("change", "told", "remedy"),
    [
        (lambda url: url.replace("envol@", "nobody@"), 'role "nobody" does not exist', "createuser"),
        (lambda url: f"{url}none", "does not exist", "createdb"),
        (lambda url: f"{url}?sslmode=require", "do not agree on TLS", "sslmode"),
    ],
)
def test_what_waiting_does_not_mend_is_told_at_once(url: str, change, told: str, remedy: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(StorageError, match=told) as caught:
        opened(change(url), patience=100)
    assert not isinstance(caught.value, UnreachableError)
    assert remedy in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid"])
def test_a_server_that_never_answers_is_named(host: str) -> None:
    with pytest.raises(UnreachableError, match=f"postgresql://envol@{host}/base") as caught:
        opened(f"postgresql://envol@{host}/base")
    assert "start the database server" in str(caught.value)


def test_an_url_that_libpq_does_not_read_is_named() -> None:
    with pytest.raises(UserError, match="is not understood"):
        opened("postgresql://envol@127.0.0.1/base?flavour=sweet")


def test_a_read_only_server_is_named(postgres: Postgres, url: str) -> None:
    metadata = opened(url)
    name = url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        metadata.close()
        with pytest.raises(StorageError, match="it is read-only") as caught, metadata.begin() as connection:
            connection.execute(insert(tables.alias_event), EVENT)
        assert "primary server" in str(caught.value)
    finally:
        postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


def test_a_full_disk_of_the_server_is_named_and_keeps_what_was_committed(
    postgres: Postgres, tmp_path: Path
) -> None:
    place = postgres.folder / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")
    try:
        space = place / "space"
        space.mkdir()
        subprocess.run(["chown", "--reference", postgres.folder, place, space], check=True)
        postgres.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
        postgres.execute("CREATE DATABASE small TABLESPACE small")
        metadata = opened(postgres.url("small"))
        written = 0
        with pytest.raises(StorageError, match="disk of its server is full") as caught:
            while True:
                with metadata.begin() as connection:
                    # Random, because PostgreSQL compresses long texts.
                    row = {**EVENT, "reason": "".join(map(str, range(written, written + 60_000)))}
                    connection.execute(insert(tables.alias_event), row)
                written += 1
        assert "free space" in str(caught.value)
        with metadata.connect() as connection:
            assert len(connection.execute(tables.alias_event.select()).all()) == written > 0
        metadata.close()
        lake = Place(tmp_path, Database(postgres.url("small"), "test"))
        with pytest.raises(StorageError, match="disk of its server is full"):
            Lake(lake)
    finally:
        postgres.execute("DROP DATABASE IF EXISTS small WITH (FORCE)")
        postgres.execute("DROP TABLESPACE IF EXISTS small")
        subprocess.run(["umount", "--lazy", str(place)], check=True)
