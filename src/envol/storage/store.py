"""The store: everything of one project under one folder."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from envol.storage.disk import make_folder

if TYPE_CHECKING:
    from envol.storage.artifacts import Artifacts
    from envol.storage.lake import Lake
    from envol.storage.metadata import Metadata


class Store:
    """The lake, the metadata and the artifacts of one project, each opened when it is first used.

    Threads may share a store; each process opens its own.

    Args:
        path: the folder; it is made, with what is above it, when something in it is first opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._lake: Lake | None = None
        self._metadata: Metadata | None = None
        self._artifacts: Artifacts | None = None

    @property
    def lake(self) -> Lake:
        """The tables."""
        with self._lock:
            if self._lake is None:
                from envol.storage.lake import Lake

                self._lake = Lake(self._folder())
            return self._lake

    @property
    def metadata(self) -> Metadata:
        """The metadata database, migrated."""
        with self._lock:
            if self._metadata is None:
                from envol.storage.metadata import FILE_NAME, Metadata

                self._metadata = Metadata(self._folder() / FILE_NAME)
            return self._metadata

    @property
    def artifacts(self) -> Artifacts:
        """The folders by digest."""
        with self._lock:
            if self._artifacts is None:
                from envol.storage.artifacts import Artifacts

                self._artifacts = Artifacts(self._folder() / "artifacts")
            return self._artifacts

    def close(self) -> None:
        """Close what was opened; using the store again opens it anew."""
        with self._lock:
            if self._lake is not None:
                self._lake.close()
            if self._metadata is not None:
                self._metadata.close()
            self._lake = self._metadata = self._artifacts = None

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _folder(self) -> Path:
        return make_folder(self.path)
