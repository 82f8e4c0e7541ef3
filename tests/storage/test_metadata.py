"""The metadata database on real SQLite files, among threads and processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import IntegrityError

from envol.errors import StorageError
from envol.storage import Metadata, Store, tables

EVENT = {"model": "delay_risk", "alias": "champion", "at": 1.0, "by": "me", "reason": "better"}
WRITER = f"""
import sys
from sqlalchemy import insert
from envol.storage import Metadata, tables
metadata = Metadata(sys.argv[1])
for number in range(int(sys.argv[2])):
    with metadata.begin() as connection:
        connection.execute(insert(tables.alias_event), {{**{EVENT!r}, "version": number}})
"""


def count(metadata: Metadata) -> int:
    with metadata.connect() as connection:
        return connection.execute(select(func.count()).select_from(tables.alias_event)).scalar_one()


def test_migrations_make_the_tables_as_declared(tmp_path: Path) -> None:
    with Store(tmp_path).metadata.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_the_declared_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == tables.REVISION


def test_a_block_commits_whole_or_not_at_all(tmp_path: Path) -> None:
    metadata = Metadata(tmp_path / "m.sqlite")
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


def test_a_reader_sees_one_state_and_waits_for_no_writer(tmp_path: Path) -> None:
    metadata = Metadata(tmp_path / "m.sqlite")
    with metadata.connect() as reader:
        before = reader.execute(select(func.count()).select_from(tables.alias_event)).scalar_one()
        with metadata.begin() as writer:
            writer.execute(insert(tables.alias_event), EVENT)
        after = reader.execute(select(func.count()).select_from(tables.alias_event)).scalar_one()
    assert (before, after, count(metadata)) == (0, 0, 1)


def test_a_thousand_quick_writes_of_threads_and_processes_all_succeed(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    children = [subprocess.Popen([sys.executable, "-c", WRITER, path, "100"]) for _ in range(4)]
    metadata = Metadata(path)

    def write(number: int) -> None:
        with metadata.begin() as connection:
            connection.execute(insert(tables.alias_event), {**EVENT, "version": number})

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(600)))
    assert [child.wait() for child in children] == [0] * 4
    assert count(metadata) == 1000


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


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    metadata = Metadata(tmp_path / "m.sqlite")
    with metadata.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    metadata.close()
    with pytest.raises(StorageError, match=r"newer Envol \(schema 9999"):
        Metadata(tmp_path / "m.sqlite")


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    path.write_text("no database at all, but long enough to be looked at as one" * 20)
    with pytest.raises(StorageError, match=r"m\.sqlite cannot be read: it is damaged"):
        Metadata(path)
    with pytest.raises(StorageError, match="may not be opened"):
        Metadata(tmp_path / "missing" / "m.sqlite")


def test_a_disk_that_is_full_already_is_named(tmp_path: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")
    try:
        Metadata(tmp_path / "m.sqlite").close()
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "filling").write_bytes(bytes(2_000_000))
        with pytest.raises(StorageError, match=r"m\.sqlite cannot be read: its disk is full") as caught:
            Metadata(tmp_path / "m.sqlite")
        assert "free space" in str(caught.value)
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_full_disk_is_named_and_keeps_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    metadata = Metadata(path)
    metadata.close()
    script = f"""
import resource, signal, sys
from pathlib import Path
from sqlalchemy import insert
from envol.errors import StorageError
from envol.storage import Metadata, tables
metadata = Metadata(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
written = 0
try:
    while True:
        with metadata.begin() as connection:
            connection.execute(insert(tables.alias_event), {{**{EVENT!r}, "reason": "x" * 5000}})
        written += 1
except StorageError as error:
    print(written, error)
"""
    found = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    written, message = found.stdout.split(" ", 1)
    assert "cannot be written" in message
    assert str(tmp_path) in message
    assert "->" in message
    assert count(Metadata(path)) == int(written) > 0


def test_processes_that_make_the_database_at_the_same_moment(tmp_path: Path) -> None:
    """SQLite does not wait by itself where another process is just switching the new file to WAL."""
    code = (
        "import sys; from envol.storage import Metadata; print('ready', flush=True); sys.stdin.readline();"
        "Metadata(sys.argv[1]).close()"
    )
    for round_ in range(4):
        path = tmp_path / f"{round_}.sqlite"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=120) for process in processes]
        assert [process.returncode for process in processes] == [0] * 4, said
