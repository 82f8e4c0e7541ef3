"""The store: everything of one project, in a folder or shared by several machines."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from envol.storage.disk import make_folder
from envol.storage.place import Place
from envol.storage.waiting import OPENING

if TYPE_CHECKING:
    from envol.project import Project
    from envol.storage.artifacts import Artifacts
    from envol.storage.lake import Lake
    from envol.storage.metadata import Metadata


class Store:
    """The lake, the metadata and the artifacts of one project, each opened when it is first used.

    Threads may share a store; each process opens its own. `Store.of(project)` opens a project's, wherever it
    is; `Store(path)` opens one in a folder.

    Args:
        place: a folder, made with what is above it when something in it is first opened, or a place.
        patience: seconds to wait for servers that nothing was heard of yet. Those that answered once are
            waited for longer.
    """

    def __init__(self, place: Path | Place, *, patience: float = OPENING) -> None:
        self.place = place if isinstance(place, Place) else Place(Path(place))
        self.path = self.place.folder
        """The folder on this machine: locks, logs, caches and the prediction log are there in any case."""
        self._patience = patience
        self._lock = threading.RLock()
        self._lake: Lake | None = None
        self._metadata: Metadata | None = None
        self._artifacts: Artifacts | None = None

    @classmethod
    def of(cls, project: Project, *, patience: float = OPENING) -> Store:
        """The store that `[storage]` of the project names.

        Raises:
            ConfigError: the project's name cannot be that of a schema.
        """
        return cls(Place.of(project), patience=patience)

    def exists(self) -> bool:
        """Whether anything was ever kept there; looking makes nothing.

        Raises:
            StorageError: the database cannot be asked.
        """
        if self.place.database is None:
            return (self.path / "metadata.sqlite").exists() or (self.path / "lake.sqlite").exists()
        from envol.storage.metadata_postgres import is_made

        return is_made(self.place.database, self._patience)

    @property
    def lake(self) -> Lake:
        """The tables."""
        with self._lock:
            if self._lake is None:
                from envol.storage.lake import Lake

                self._folder()
                self._lake = Lake(self.place, patience=self._patience)
            return self._lake

    @property
    def metadata(self) -> Metadata:
        """The metadata database, migrated."""
        with self._lock:
            if self._metadata is None:
                from envol.storage.metadata import FILE_NAME, Metadata

                place = self.place.database or self._folder() / FILE_NAME
                self._metadata = Metadata(place, opening=self._patience)
            return self._metadata

    @property
    def artifacts(self) -> Artifacts:
        """The folders by digest."""
        with self._lock:
            if self._artifacts is None:
                self._artifacts = self._open_artifacts()
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

    def _open_artifacts(self) -> Artifacts:
        if self.place.data is None:
            from envol.storage.artifacts import Artifacts

            return Artifacts(self._folder() / "artifacts")
        from envol.storage.shared_artifacts import SharedArtifacts

        cache = self._folder() / "cache" / "artifacts"
        return SharedArtifacts(f"{self.place.data}/artifacts", cache, self._patience)

    def _folder(self) -> Path:
        return make_folder(self.path)
