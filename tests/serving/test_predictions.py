"""The prediction log on real files."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
import textwrap
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from envol.errors import StorageError
from envol.serving import Prediction, PredictionLog
from envol.serving.ids import Ids

START = datetime(2013, 1, 5, 12, tzinfo=UTC)
PATIENCE = 60


def prediction(number: int, model: str = "delay_risk") -> Prediction:
    at = int(START.timestamp()) * 1_000_000 + number
    return Prediction(f"id-{number}", at, model, 3, f'{{"n":{number}}}', '{"prediction":true}')


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    log = PredictionLog.in_store(tmp_path)
    log.append([prediction(1), prediction(2)]).result(PATIENCE)
    log.append([prediction(3, "other")]).result(PATIENCE)
    frame = PredictionLog(tmp_path / "predictions.sqlite").read()
    assert frame["id"].to_list() == ["id-1", "id-2", "id-3"]
    assert frame["at"].to_list() == [START + timedelta(microseconds=n) for n in (1, 2, 3)]
    assert frame.row(0, named=True)["input"] == '{"n":1}'
    assert log.read("other")["id"].to_list() == ["id-3"]
    assert log.read(since=START + timedelta(microseconds=2))["id"].to_list() == ["id-2", "id-3"]
    assert log.read(limit=1)["id"].to_list() == ["id-1"]
    assert log.read(limit=2, newest=True)["id"].to_list() == ["id-2", "id-3"]
    assert log.read(after=int(frame["sequence"][1]))["id"].to_list() == ["id-3"]
    log.close()


def test_a_log_never_written_reads_empty(tmp_path: Path) -> None:
    frame = PredictionLog.in_store(tmp_path).read("delay_risk")
    assert frame.is_empty()
    assert frame.columns == ["sequence", "id", "at", "model", "version", "input", "output"]
    assert not list(tmp_path.iterdir())


def test_every_append_of_many_threads_is_kept(tmp_path: Path) -> None:
    log = PredictionLog.in_store(tmp_path)

    def client(thread: int) -> None:
        for number in range(100):
            log.append([prediction(thread * 1000 + number)]).result(PATIENCE)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(client, range(16)))
    assert log.read().height == 1600
    log.close()


def test_close_writes_what_is_queued_and_refuses_more(tmp_path: Path) -> None:
    log = PredictionLog.in_store(tmp_path)
    futures = [log.append([prediction(number)]) for number in range(200)]
    log.close()
    assert all(future.done() and future.exception() is None for future in futures)
    assert log.read().height == 200
    with pytest.raises(StorageError, match="closed"):
        log.append([prediction(500)])


def test_a_cancelled_append_harms_no_other(tmp_path: Path) -> None:
    log = PredictionLog.in_store(tmp_path)
    futures = [log.append([prediction(number)]) for number in range(300)]
    cancelled = [future.cancel() for future in futures[::3]]
    log.append([prediction(1000)]).result(PATIENCE)
    assert log.read().height == 301 - sum(cancelled)
    log.close()


def test_two_processes_share_a_log(tmp_path: Path) -> None:
    first, second = PredictionLog.in_store(tmp_path), PredictionLog.in_store(tmp_path)
    futures = [
        log.append([prediction(2 * n + i)]) for n in range(200) for i, log in ((0, first), (1, second))
    ]
    for future in futures:
        future.result(PATIENCE)
    assert first.read().height == 400
    first.close()
    second.close()


def test_a_failed_batch_leaves_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    log = PredictionLog.in_store(tmp_path)
    log.append([prediction(1)]).result(PATIENCE)
    with pytest.raises(StorageError, match="cannot be written"):
        log.append([prediction(2), prediction(1)]).result(PATIENCE)  # an id twice
    assert log.failure is not None
    log.append([prediction(3)]).result(PATIENCE)
    assert log.failure is None
    assert log.read()["id"].to_list() == ["id-1", "id-3"]
    log.close()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "predictions.sqlite").write_bytes(b"not a database at all" * 100)
    log = PredictionLog.in_store(tmp_path)
    with pytest.raises(StorageError, match="predictions.sqlite cannot be written: it is damaged"):
        log.append([prediction(1)]).result(PATIENCE)
    log.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "predictions.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    log = PredictionLog.in_store(tmp_path)
    with pytest.raises(StorageError, match="newer Envol"):
        log.append([]).result(PATIENCE)
    log.close()


def test_a_file_that_may_not_grow_fails_the_append_and_recovers(tmp_path: Path) -> None:
    """The kernel refuses the writes here, as it does on a full disk; a limit needs no disk of its own."""
    script = textwrap.dedent(
        f"""
        import resource, sys
        from pathlib import Path
        from envol.errors import StorageError
        from envol.serving import Prediction, PredictionLog
        log = PredictionLog(Path(sys.argv[1]))
        def add(n, size):
            log.append([Prediction(f"id-{{n}}", n, "m", 1, "x" * size, "{{}}")]).result({PATIENCE})
        add(1, 10)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            add(2, 1_000_000)
        except StorageError as error:
            assert "cannot be written" in str(error) and "space" in str(error), error
        else:
            raise SystemExit("acknowledged what cannot be on disk")
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        add(3, 10)
        log.close()
        """
    )
    assert hasattr(resource, "RLIMIT_FSIZE")
    path = tmp_path / "predictions.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert PredictionLog(path).read()["id"].to_list() == ["id-1", "id-3"]


def test_ids_are_version_7_and_increase() -> None:
    ids = Ids()
    taken = [one for count in (1, 5000, 1, 100) for one in ids.take(count)]
    assert taken == sorted(taken)
    assert len(set(taken)) == len(taken)
    parsed = uuid.UUID(taken[0])
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    made = datetime.fromtimestamp((parsed.int >> 80) / 1000, UTC)
    assert abs(made - datetime.now(UTC)) < timedelta(minutes=5)
