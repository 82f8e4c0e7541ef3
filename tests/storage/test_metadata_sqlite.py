"""Faults of a SQLite file and of its disk."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from envol.errors import StorageError
from envol.storage import Metadata, tables

EVENT = {"model": "delay_risk", "alias": "champion", "at": 1.0, "by": "me", "reason": "better"}


def count(metadata: Metadata) -> int:
    with metadata.connect() as connection:
        return connection.execute(select(func.count()).select_from(tables.alias_event)).scalar_one()


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
