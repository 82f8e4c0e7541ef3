"""Moving a store to PostgreSQL and S3 and back: nothing is lost, wherever it is cut off."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from servers import S3, Postgres
from sqlalchemy import insert, select

from envol.errors import NotFoundError, StorageError, UserError
from envol.project.windows import Window
from envol.storage import Place, Store, tables
from envol.storage.moving import move
from envol.storage.place import Database

Day = Callable[[int], Window]
EVENT = {"model": "m", "alias": "champion", "at": 1.5, "by": "me", "reason": "NUL \0 and é"}


def filled(folder: Path, day: Day) -> Store:
    """A store with a history: windows made again, a table dropped, columns added, files merged."""
    store = Store(folder)
    for round_ in range(3):
        for number in range(3):
            frame = pl.DataFrame(
                {"n": [10 * round_ + number] * (1 + number), "took": timedelta(seconds=round_)}
            )
            store.lake.replace({"a": frame, 'odd "b"': frame}, day(number), node="a", fingerprint=str(round_))
    store.lake.replace({"gone": pl.DataFrame({"n": [1]})}, day(0), node="gone", fingerprint="f")
    store.lake.drop("gone")
    store.lake.replace({"a": pl.DataFrame({"n": [7], "x": ["é"]})}, day(4), node="a", fingerprint="f")
    store.lake.compact()
    store.lake.replace({"a": pl.DataFrame({"n": [8]})}, day(5), node="a", fingerprint="f")
    with store.metadata.begin() as connection:
        for version in range(1, 2500):
            connection.execute(insert(tables.alias_event), {**EVENT, "version": version})
    for name in ("one", "two"):
        package = folder / "package"
        package.mkdir(exist_ok=True)
        (package / "model").write_text(name)
        store.artifacts.put(package)
    return store


def content(store: Store) -> dict[str, object]:
    """All that a store tells."""
    lake = store.lake
    with store.metadata.connect() as connection:
        events = connection.execute(select(tables.alias_event).order_by(tables.alias_event.c.id)).all()
    return {
        "now": {info.name: lake.read(info.name).to_dicts() for info in lake.tables()},
        "then": {snapshot: lake.read("a", snapshot=snapshot).to_dicts() for snapshot in (3, 5, 9)},
        "snapshots": lake.snapshots().to_dicts(),
        "events": [(event.id, event.version, event.reason.replace("\0", "\ufffd")) for event in events],
        "packages": {
            digest: (store.artifacts.get(digest) / "model").read_text()
            for digest in store.artifacts.digests()
        },
    }


@pytest.fixture
def target(tmp_path: Path, postgres: Postgres, bucket: str) -> Place:
    database = Database(postgres.new_database(), "my project")
    return Place(tmp_path / "target", database, f"{bucket}/prefix/my project")


def test_there_and_back_again(tmp_path: Path, target: Place, day: Day) -> None:
    source = filled(tmp_path / "source", day)
    before = content(source)
    compared = move(source, target)
    assert {one.part for one in compared} == {"artifacts", "files", "lake", "metadata", "table"}
    assert all(one.equal and one.source == one.target for one in compared)
    assert content(source) == before
    with Store(target) as there:
        assert content(there) == before
        there.lake.replace({"a": pl.DataFrame({"n": [9]})}, day(6), node="a", fingerprint="f")
        with there.metadata.begin() as connection:
            connection.execute(insert(tables.alias_event), EVENT)
        there.lake.compact()
        after = content(there)
        assert after["events"][-1][0] == 2500  # type: ignore[index]
        move(there, Place(tmp_path / "back"))
    with Store(tmp_path / "back") as back:
        assert content(back) == after
        back.lake.replace({"a": pl.DataFrame({"n": [10]})}, day(6), node="a", fingerprint="f")
        back.lake.expire(timedelta(0), datetime.now(UTC) + timedelta(days=1), grace=timedelta(0))
        back.lake.compact(grace=timedelta(0))
        assert_frame_equal(back.lake.read('odd "b"'), source.lake.read('odd "b"'))
        assert back.lake.read("a", day(6).start)["n"].to_list() == [10]
    assert not list((tmp_path / "back").glob(".move/*"))


MOVE = """
import sys
from pathlib import Path
from envol.storage import Place, Store
from envol.storage.moving import move
from envol.storage.place import Database
source, folder, url, data = sys.argv[1:]
database = Database(url, "my project") if url else None
print("ready", flush=True)
move(Store(Path(source)), Place(Path(folder), database, data or None))
"""


@pytest.mark.parametrize("where", ["shared", "folder"])
def test_it_may_be_killed_at_any_moment(tmp_path: Path, target: Place, day: Day, where: str) -> None:
    source = filled(tmp_path / "source", day)
    before = content(source)
    source.close()
    if where == "folder":
        target = Place(tmp_path / "target")
    url, data = (target.database.url if target.database else ""), target.data or ""
    command = [sys.executable, "-c", MOVE, str(tmp_path / "source"), str(target.folder), url, data]
    for pause in (0.1, 0.4, 0.7, 1.1, 1.5):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        threading.Timer(pause, child.kill).start()
        _, errors = child.communicate()
        if child.returncode == 0:
            break
        assert child.returncode == -9, errors
        if Store(target).exists():
            break  # killed after the very last step
    else:
        assert all(one.equal for one in move(source, target))
    with Store(target) as there:
        assert content(there) == before
    assert content(source) == before


def test_one_that_was_cut_off_between_its_two_renames_is_finished(tmp_path: Path, day: Day) -> None:
    source, target = filled(tmp_path / "source", day), Place(tmp_path / "target")
    move(source, target)
    (target.folder / ".move").mkdir()
    (target.folder / "metadata.sqlite").rename(target.folder / ".move" / "metadata.sqlite")
    move(source, target)
    with Store(target) as there:
        assert content(there) == content(source)


def test_a_place_that_is_taken_is_refused(tmp_path: Path, target: Place, day: Day) -> None:
    source = filled(tmp_path / "source", day)
    with Store(target) as there:
        there.lake.replace({"mine": pl.DataFrame({"n": [1]})}, day(0), node="mine", fingerprint="f")
        with pytest.raises(UserError, match="something of this project already"):
            move(source, target)
        assert [info.name for info in there.lake.tables()] == ["mine"]
    with pytest.raises(UserError, match="something of this project already"):
        move(source, Place(tmp_path / "source"))


def test_files_of_something_else_are_refused(tmp_path: Path, target: Place, day: Day, s3: S3) -> None:
    source = filled(tmp_path / "source", day)
    assert target.data is not None
    foreign = s3.folder / target.data.removeprefix("s3://") / "tables" / "main" / "x.parquet"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("of another")
    with pytest.raises(StorageError, match=r"files of something else, such as main/x\.parquet"):
        move(source, target)
    assert foreign.read_text() == "of another"
    assert not Store(target).exists()


@pytest.mark.parametrize("past", [True, False])
def test_a_file_that_is_not_as_it_was_is_noticed(tmp_path: Path, day: Day, past: bool) -> None:
    """A copy of the same size, as a disk that fails may leave it."""
    source = filled(tmp_path / "source", day)
    target = Place(tmp_path / "target")
    files = sorted((tmp_path / "source" / "tables").rglob("*.parquet"), key=lambda file: file.stat().st_mtime)
    file = files[0 if past else -1]
    copy = target.folder / "tables" / file.relative_to(tmp_path / "source" / "tables")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(StorageError, match="files all tables" if past else "damaged"):
        move(source, target)
    assert not Store(target).exists()
    copy.unlink()
    assert all(one.equal for one in move(source, target))


def test_where_nothing_is_there_is_nothing_to_move(tmp_path: Path, target: Place) -> None:
    with pytest.raises(NotFoundError, match="nothing to move"):
        move(Store(tmp_path / "none"), target)
    assert not (tmp_path / "none").exists()
