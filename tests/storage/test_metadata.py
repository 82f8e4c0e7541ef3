"""The metadata database on SQLite and on PostgreSQL, among threads and processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from servers import place
from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.exc import IntegrityError

from envol.errors import StorageError
from envol.storage import Metadata, Store, tables

EVENT = {"model": "delay_risk", "alias": "champion", "at": 1.0, "by": "me", "reason": "better"}
WRITER = f"""
import sys
from pathlib import Path
from servers import place
from sqlalchemy import insert
from envol.storage import Store, tables
metadata = Store(place(Path(sys.argv[1]))).metadata
for number in range(int(sys.argv[2])):
    with metadata.begin() as connection:
        connection.execute(insert(tables.alias_event), {{**{EVENT!r}, "version": number}})
"""


@pytest.fixture
def metadata(tmp_path: Path, storage: str) -> Iterator[Metadata]:
    with Store(place(tmp_path)) as store:
        yield store.metadata


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that finds the same database."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def count(metadata: Metadata) -> int:
    with metadata.connect() as connection:
        return connection.execute(select(func.count()).select_from(tables.alias_event)).scalar_one()


def test_migrations_make_the_tables_as_declared(metadata: Metadata) -> None:
    with metadata.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_the_declared_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == tables.REVISION


def test_a_block_commits_whole_or_not_at_all(metadata: Metadata) -> None:
    with pytest.raises(IntegrityError), metadata.begin() as connection:
        connection.execute(insert(tables.alias_event), EVENT)
        for _ in range(2):
            row = {"model": "m", "alias": "champion", "version": 1, "since": 0.0}
            connection.execute(insert(tables.alias), row)
    assert count(metadata) == 0
    with metadata.begin() as connection:
        connection.execute(insert(tables.alias_event), EVENT)
    with metadata.connect() as connection:
        connection.execute(insert(tables.alias_event), EVENT)
    assert count(metadata) == 1


def test_a_reader_sees_one_state_and_waits_for_no_writer(metadata: Metadata) -> None:
    with metadata.connect() as reader:
        before = reader.execute(select(func.count()).select_from(tables.alias_event)).scalar_one()
        with metadata.begin() as writer:
            writer.execute(insert(tables.alias_event), EVENT)
        after = reader.execute(select(func.count()).select_from(tables.alias_event)).scalar_one()
    assert (before, after, count(metadata)) == (0, 0, 1)


def test_a_thousand_quick_writes_of_threads_and_processes_all_succeed(
    metadata: Metadata, tmp_path: Path
) -> None:
    children = [run(WRITER, tmp_path, 100) for _ in range(4)]

    def write(number: int) -> None:
        with metadata.begin() as connection:
            connection.execute(insert(tables.alias_event), {**EVENT, "version": number})

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(600)))
    said = [child.communicate() for child in children]
    assert [child.returncode for child in children] == [0] * 4, said
    assert count(metadata) == 1000


NUMBERING = """
import sys
from pathlib import Path
from servers import place
from sqlalchemy import Connection, func, insert, select
from envol.storage import Store, tables
metadata = Store(place(Path(sys.argv[1]))).metadata
version = tables.alias_event.c.version
for _ in range(int(sys.argv[2])):
    with metadata.begin() as connection:
        last = connection.execute(select(func.max(version))).scalar() or 0
        row = {"model": "m", "alias": "a", "at": 1.0, "by": "me", "reason": "", "version": last + 1}
        connection.execute(insert(tables.alias_event), row)
"""


def test_what_a_writer_has_read_is_still_true_when_it_commits(metadata: Metadata, tmp_path: Path) -> None:
    """Processes that number what they add one by one leave no gap and no number twice."""
    children = [run(NUMBERING, tmp_path, 25) for _ in range(4)]
    said = [child.communicate() for child in children]
    assert [child.returncode for child in children] == [0] * 4, said
    with metadata.connect() as connection:
        numbers = connection.execute(select(tables.alias_event.c.version)).scalars()
        assert sorted(numbers) == list(range(1, 101))


def test_work_is_written_and_read_as_in_a_block(metadata: Metadata) -> None:
    def broken(connection: Connection) -> None:
        connection.execute(insert(tables.alias_event), EVENT)
        raise KeyError("wrong")

    with pytest.raises(KeyError, match="wrong"):
        metadata.write(broken)
    assert count(metadata) == 0

    def add(connection: Connection) -> str:
        connection.execute(insert(tables.alias_event), EVENT)
        return "added"

    assert metadata.write(add) == "added"
    assert metadata.read(lambda connection: connection.execute(select(tables.alias_event.c.by)).all()) == [
        ("me",)
    ]


def test_an_up_to_date_database_opens_without_alembic_or_duckdb(tmp_path: Path) -> None:
    Store(tmp_path).metadata.close()
    script = (
        "import sys; from pathlib import Path; from envol.storage import Store;"
        "Store(Path(sys.argv[1])).metadata;"
        "print([name for name in ('alembic', 'duckdb') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_newer_schema_is_refused_and_left_alone(metadata: Metadata, tmp_path: Path) -> None:
    with metadata.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match=r"newer Envol \(schema 9999") as caught:
        Store(place(tmp_path)).metadata.close()
    assert "upgrade Envol" in str(caught.value)


def test_processes_that_make_the_database_at_the_same_moment(tmp_path: Path, storage: str) -> None:
    """SQLite does not wait by itself where another process is just switching the new file to WAL."""
    code = (
        "import sys; from pathlib import Path; from servers import place; from envol.storage import Store\n"
        "print('ready', flush=True); sys.stdin.readline(); Store(place(Path(sys.argv[1]))).metadata.close()"
    )
    for round_ in range(2 if storage == "sqlite" else 1):
        processes = [run(code, tmp_path / str(round_)) for _ in range(4)]
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=120) for process in processes]
        assert [process.returncode for process in processes] == [0] * 4, said
