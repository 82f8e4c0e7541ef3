"""Artifacts on S3: what other machines find, what damage and outages do, and what nobody may read."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import S3

from envol.errors import CorruptArtifactError, NotFoundError, StorageError, UserError
from envol.storage import Artifacts, Place, Store, UnreachableError

FILES = {"MLmodel": "flavors", "data/model": "weights" * 1000, "data/name with blanks": "more"}


def machine(path: Path, bucket: str, patience: float = 10) -> Artifacts:
    """The artifacts as a machine sees them whose own folder is `path`."""
    return Store(Place(path, data=f"{bucket}/prefix/project"), patience=patience).artifacts


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / "package" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "package"


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_another_machine_finds_the_same_and_keeps_a_copy(
    tmp_path: Path, bucket: str, s3: S3, package: Path
) -> None:
    digest = machine(tmp_path / "one", bucket).put(package)
    other = machine(tmp_path / "two", bucket)
    assert other.digests() == [digest]
    assert content(other.get(digest)) == FILES
    for name in s3.objects(bucket):
        (s3.folder / bucket.removeprefix("s3://") / name).unlink()
    assert content(other.get(digest)) == FILES
    with pytest.raises(NotFoundError, match=digest):
        machine(tmp_path / "three", bucket).get(digest)


def test_a_damaged_copy_is_fetched_again(tmp_path: Path, bucket: str, package: Path) -> None:
    digest = machine(tmp_path / "one", bucket).put(package)
    other = machine(tmp_path / "two", bucket)
    (other.get(digest) / "MLmodel").write_text("other")
    assert content(other.get(digest)) == FILES


@pytest.mark.parametrize("damage", ["changed", "missing", "manifest"])
def test_damage_in_the_bucket_is_named_until_it_is_stored_again(
    tmp_path: Path, bucket: str, s3: S3, package: Path, damage: str
) -> None:
    one = machine(tmp_path / "one", bucket)
    digest = one.put(package)
    ending = ".manifest" if damage == "manifest" else "data/model"
    [name] = [name for name in s3.objects(bucket) if name.endswith(ending)]
    file = s3.folder / bucket.removeprefix("s3://") / name
    file.unlink() if damage == "missing" else file.write_text("other")
    other = machine(tmp_path / "two", bucket)
    with pytest.raises(CorruptArtifactError, match=digest):
        other.get(digest)
    assert not other.path.exists() or list(other.path.iterdir()) == []
    assert one.put(package) == digest
    assert content(other.get(digest)) == FILES


def test_a_writer_killed_at_any_moment_leaves_all_or_nothing(
    tmp_path: Path, bucket: str, s3: S3, package: Path
) -> None:
    script = (
        "import sys; from pathlib import Path; from envol.storage import Place, Store\n"
        "artifacts = Store(Place(Path(sys.argv[1]), data=sys.argv[2])).artifacts\n"
        "print('ready', flush=True)\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    (Path(sys.argv[3]) / 'number').write_text(str(number))\n"
        "    print(artifacts.put(Path(sys.argv[3])), flush=True)\n"
    )
    arguments = [str(tmp_path / "one"), f"{bucket}/prefix/project", str(package)]
    acknowledged = set()
    for pause in (0.05, 0.11, 0.18):
        child = subprocess.Popen(
            [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        threading.Timer(pause, child.kill).start()
        output, _ = child.communicate()
        acknowledged |= set(output.split())
    other = machine(tmp_path / "two", bucket)
    found = other.digests()
    assert acknowledged and acknowledged <= set(found)
    assert {other.get(digest).name for digest in found} == set(found)


@pytest.fixture
def own_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A server that the test may stop."""
    server = S3()
    server.start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.close()


def test_a_server_that_is_away_for_a_moment_is_waited_for(tmp_path: Path, own_s3: S3, package: Path) -> None:
    bucket = own_s3.new_bucket()
    artifacts = machine(tmp_path / "one", bucket)
    first = artifacts.put(package)
    own_s3.stop()
    threading.Timer(1.5, own_s3.start).start()
    (package / "MLmodel").write_text("other flavors")
    second = artifacts.put(package)
    assert machine(tmp_path / "two", bucket).digests() == sorted([first, second])


def test_a_server_that_does_not_come_back_is_named(tmp_path: Path, own_s3: S3, package: Path) -> None:
    bucket = own_s3.new_bucket()
    own_s3.stop()
    with pytest.raises(UnreachableError, match=f"object store of {bucket}") as caught:
        machine(tmp_path / "one", bucket, patience=0.5).put(package)
    assert "AWS_ENDPOINT_URL_S3" in str(caught.value)


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path, bucket: str, package: Path) -> None:
    with pytest.raises(StorageError, match="no such bucket") as caught:
        machine(tmp_path / "one", "s3://none-such").put(package)
    assert "`data` under [storage]" in str(caught.value)


def test_without_credentials_it_says_where_they_go(
    tmp_path: Path, bucket: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(UserError, match="no credentials") as caught:
        machine(tmp_path / "one", bucket)
    assert "AWS_SECRET_ACCESS_KEY" in str(caught.value)


def test_credentials_may_stand_in_a_file(
    tmp_path: Path, bucket: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    file.write_text("[work]\naws_access_key_id = test\naws_secret_access_key = a%b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "work")
    artifacts = machine(tmp_path / "one", bucket)
    assert artifacts.digests() == []
    assert artifacts.put(package) in artifacts.digests()


def test_nothing_of_it_is_loaded_for_a_folder(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from envol.storage import Store\n"
        "store = Store(Path(sys.argv[1])); store.metadata; store.lake; store.artifacts\n"
        "foreign = {'obstore', 'psycopg', 'envol.storage.s3', 'envol.storage.postgres'}\n"
        "print(sorted(foreign & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("ENVOL_")},
    )
    assert found.stdout.strip() == "[]"
