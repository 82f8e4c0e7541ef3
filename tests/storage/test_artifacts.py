"""Artifacts in real folders and in a real object store."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envol.errors import CorruptArtifactError, NotFoundError, StorageError, UserError
from envol.storage import Artifacts, Place, Store


@pytest.fixture(params=["folder", "s3"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    data = request.getfixturevalue("bucket") if request.param == "s3" else None
    return Store(Place(tmp_path / "store", data=data)).artifacts


def folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        file = path / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


def test_a_folder_comes_back_whole_under_the_digest_that_sha256sum_computes(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    source = folder(tmp_path / "model", MLmodel="flavors", data__model="weights")
    digest = artifacts.put(source)
    stored = artifacts.get(digest)
    assert (stored / "data" / "model").read_text() == "weights"
    script = "find . -type f | sed 's|^./||' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    found = subprocess.run(script, shell=True, cwd=source, capture_output=True, text=True, check=True)
    assert found.stdout.split()[0] == digest


def test_the_same_content_is_stored_once_and_other_content_elsewhere(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    first = artifacts.put(folder(tmp_path / "a", x="1"))
    assert artifacts.put(folder(tmp_path / "b", x="1")) == first
    renamed = artifacts.put(folder(tmp_path / "c", y="1"))
    assert artifacts.digests() == sorted([first, renamed])
    assert len(list(artifacts.path.iterdir())) == 2


def test_threads_that_store_the_same_folder_at_once_agree(artifacts: Artifacts, tmp_path: Path) -> None:
    source = folder(tmp_path / "a", x="1", y="2")
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: artifacts.put(source), range(24)))
    assert artifacts.digests() == list(digests)
    assert [path.name for path in artifacts.path.iterdir()] == list(digests)


@pytest.mark.parametrize("damage", ["changed", "missing", "added"])
def test_a_damaged_artifact_is_refused_until_it_is_stored_again(tmp_path: Path, damage: str) -> None:
    source = folder(tmp_path / "a", x="1", y="2")
    artifacts = Artifacts(tmp_path / "artifacts")
    digest = artifacts.put(source)
    file = artifacts.path / digest / ("z" if damage == "added" else "x")
    file.unlink() if damage == "missing" else file.write_text("other")
    with pytest.raises(CorruptArtifactError, match=digest):
        artifacts.get(digest)
    assert artifacts.put(source) == digest
    assert (artifacts.get(digest) / "x").read_text() == "1"


def test_what_is_not_there_is_named(artifacts: Artifacts) -> None:
    assert artifacts.digests() == []
    for digest in ("0" * 64, "../a", ""):
        with pytest.raises(NotFoundError):
            artifacts.get(digest)
        with pytest.raises(NotFoundError):
            artifacts.delete(digest)


def test_a_deleted_artifact_is_gone(artifacts: Artifacts, tmp_path: Path) -> None:
    digest = artifacts.put(folder(tmp_path / "a", x="1"))
    artifacts.delete(digest)
    assert artifacts.digests() == []
    assert not list(artifacts.path.iterdir())


def test_only_folders_of_files_are_stored(artifacts: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    linked = folder(tmp_path / "linked", x="1")
    (linked / "link").symlink_to(tmp_path)
    for source in (tmp_path / "empty", tmp_path / "none", linked):
        with pytest.raises(UserError, match=str(source)):
            artifacts.put(source)
    assert artifacts.digests() == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"artifacts.* cannot be written"):
        Artifacts(tmp_path / "artifacts").put(folder(tmp_path / "a", x="1"))
