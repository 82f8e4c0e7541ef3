"""Artifacts on S3, with those that were used kept on this machine."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from envol.errors import CorruptArtifactError, NotFoundError
from envol.storage.artifacts import DIGEST, Artifacts, digest_of, manifest_of
from envol.storage.s3 import Bucket

_MANIFEST = re.compile(r"([0-9a-f]{64})\.manifest")


class SharedArtifacts(Artifacts):
    """Folders by digest below an address on S3: `DIGEST/PATH` for each file, and `DIGEST.manifest`.

    The manifest holds the lines that the digest is computed from, is written last and read first, so that a
    folder is there whole or not at all.

    Args:
        address: `s3://bucket/prefix`.
        cache: a folder of this machine for what was fetched.
        opening: seconds to wait for a server that nothing was heard of yet.
    """

    def __init__(self, address: str, cache: Path, opening: float) -> None:
        super().__init__(cache)
        self._bucket = Bucket(address, opening)

    def put(self, folder: Path) -> str:
        """Store a folder, and return its digest; also anew where it is stored already.

        Raises:
            UserError: when it is no folder, holds no file, or holds anything but files and folders.
            StorageError: when it cannot be written; nothing half-written is ever found under a digest.
        """
        digest = super().put(folder)
        stored = self.path / digest
        manifest = manifest_of(stored)
        for file in _paths(manifest):
            self._bucket.put(f"{digest}/{file}", stored / file)
        self._bucket.put(f"{digest}.manifest", manifest)
        return digest

    def get(self, digest: str) -> Path:
        """A copy of the stored folder on this machine, its content verified; it must not be changed.

        Raises:
            NotFoundError: when nothing is stored under that digest.
            CorruptArtifactError: when its files are not those that were stored.
            StorageError: when it cannot be fetched.
        """
        try:
            return super().get(digest)
        except (NotFoundError, CorruptArtifactError):  # never fetched, or damaged on this machine
            self._fetch(digest)
        return super().get(digest)

    def digests(self) -> list[str]:
        """Digests of what is stored, sorted."""
        found = (_MANIFEST.fullmatch(key) for key in self._bucket.sizes())
        return sorted(match[1] for match in found if match)

    def delete(self, digest: str) -> None:
        """Remove a stored folder.

        Raises:
            NotFoundError: when nothing is stored under that digest.
        """
        manifest = self._manifest(digest)
        self._bucket.delete([f"{digest}.manifest"])
        self._bucket.delete(f"{digest}/{file}" for file in _paths(manifest))
        if (self.path / digest).is_dir():
            super().delete(digest)

    def _manifest(self, digest: str) -> bytes:
        missing = NotFoundError(f"no artifact {digest} is stored in {self._bucket.address}")
        if not DIGEST.fullmatch(digest):
            raise missing
        try:
            return self._bucket.get(f"{digest}.manifest")
        except NotFoundError:
            raise missing from None

    def _fetch(self, digest: str) -> None:
        manifest = self._manifest(digest)
        if hashlib.sha256(manifest).hexdigest() != digest:
            raise self._corrupt(digest, "its manifest is another")
        incoming = self._incoming()
        try:
            for file in _paths(manifest):
                (incoming / file).parent.mkdir(parents=True, exist_ok=True)
                self._bucket.download(f"{digest}/{file}", incoming / file)
            found = digest_of(incoming)
            if found != digest:
                raise self._corrupt(digest, f"its content has {found}")
            self._move_in(incoming, digest)
        except NotFoundError as error:
            raise self._corrupt(digest, f"a file is missing ({error.message})") from None
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _corrupt(self, digest: str, why: str) -> CorruptArtifactError:
        return CorruptArtifactError(
            f"the artifact {digest} in {self._bucket.address} does not match its digest: {why}",
            remedy="restore the bucket from a backup, or delete the artifact and make it again",
        )


def _paths(manifest: bytes) -> list[str]:
    """The files that a manifest lists."""
    return [line.split("  ", 1)[1] for line in manifest.decode().split("\n")[:-1]]
