"""Artifacts: folders kept by the SHA-256 of their content, never changed once stored."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envol.errors import CorruptArtifactError, NotFoundError, StorageError, UserError
from envol.storage.disk import flush

DIGEST = re.compile(r"[0-9a-f]{64}")
_INCOMING = ".incoming-"


class Artifacts:
    """A folder of folders, each named by its digest.

    The digest is the SHA-256 over the lines `<sha256 of the file>  <relative path>`, sorted by path, which
    is what `find . -type f | sort | xargs sha256sum` prints with the leading `./` left out. Empty folders,
    times and permissions do not count.

    Args:
        path: the folder; `put` makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def put(self, folder: Path) -> str:
        """Copy a folder in, and return its digest; a folder that is stored already is not stored again.

        Raises:
            UserError: when it is no folder, holds no file, or holds anything but files and folders.
            StorageError: when it cannot be written; nothing half-written is ever found under a digest.
        """
        folder = Path(folder)
        files = list(_files(folder))
        if not files:
            raise UserError(f"the folder {folder} holds no file", remedy="store a folder with files in it")
        incoming = self._incoming()
        with self._explained():
            try:
                for file in files:
                    _copy(folder / file, incoming / file)
                digest = digest_of(incoming)
                self._move_in(incoming, digest)
            finally:
                shutil.rmtree(incoming, ignore_errors=True)
        return digest

    def get(self, digest: str) -> Path:
        """The stored folder, its content verified; it must not be changed.

        Raises:
            NotFoundError: when nothing is stored under that digest.
            CorruptArtifactError: when its files are not those that were stored.
        """
        path = self._stored(digest)
        found = _found(path)
        if found != digest:
            raise CorruptArtifactError(
                f"the artifact {path} does not match its digest: its content has {found}",
                remedy="restore the folder from a backup, or delete the artifact and make it again",
            )
        return path

    def digests(self) -> list[str]:
        """Digests of what is stored, sorted."""
        if not self.path.is_dir():
            return []
        return sorted(entry.name for entry in self.path.iterdir() if DIGEST.fullmatch(entry.name))

    def delete(self, digest: str) -> None:
        """Remove a stored folder.

        Raises:
            NotFoundError: when nothing is stored under that digest.
        """
        path = self._stored(digest)
        with self._explained():
            self._discard(path)

    def _stored(self, digest: str) -> Path:
        path = self.path / digest
        if not DIGEST.fullmatch(digest) or not path.is_dir():
            raise NotFoundError(f"no artifact {digest} is stored in {self.path}")
        return path

    def _move_in(self, incoming: Path, digest: str) -> None:
        target = self.path / digest
        if target.is_dir() and _found(target) != digest:
            self._discard(target)
        try:
            incoming.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise it is stored already
                raise
        flush(self.path)

    def _discard(self, path: Path) -> None:
        # Renamed first: a reader finds the whole folder or none.
        away = self._incoming()
        path.rename(away)
        shutil.rmtree(away)

    def _incoming(self) -> Path:
        """A new place for what is not yet, or no longer, stored."""
        return self.path / f"{_INCOMING}{uuid.uuid4().hex}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"the artifacts in {self.path} cannot be written: {error.strerror or error}",
                remedy=f"free space on the disk of {self.path}, or check its permissions",
            ) from error


def digest_of(folder: Path) -> str:
    """The digest of a folder's content (see `Artifacts`)."""
    return hashlib.sha256(manifest_of(folder)).hexdigest()


def manifest_of(folder: Path) -> bytes:
    """The lines that the digest of a folder is computed from."""
    lines = []
    for file in sorted(_files(folder), key=lambda path: path.as_posix().encode()):
        with (folder / file).open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        lines.append(f"{content}  {file.as_posix()}\n")
    return "".join(lines).encode()


def _found(folder: Path) -> str:
    """The digest of what is there, or why it has none."""
    try:
        return digest_of(folder)
    except (OSError, UserError) as error:
        return str(error)


def _files(folder: Path) -> Iterator[Path]:
    """Relative paths of the files in a folder and the folders in it."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder", remedy="name a folder")
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise UserError(
                    f"{path} is neither a file nor a folder", remedy="replace links by what they point to"
                )
        for name in names:
            yield Path(parent, name).relative_to(folder)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    flush(target)
