"""Moving a store: everything of a project is copied to another place, compared, and only then found there.

Files and artifacts go where they stay, under names that say what is in them. Metadata and the lake's
catalog are drafts until all is equal, and are renamed then. Whoever is killed before begins again, and copies
only the files that are missing.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from envol.errors import NotFoundError, StorageError, UserError
from envol.storage.catalogs import CATALOG, CatalogFile, CatalogSchema, FilePen
from envol.storage.disk import flush, make_folder
from envol.storage.ground import Ground, instance
from envol.storage.metadata import FILE_NAME, Metadata
from envol.storage.moving_lake import (
    attach_catalogs,
    compare_files,
    compare_lakes,
    copy_catalog,
    copy_files,
    past_files,
    unneeded_files,
)
from envol.storage.moving_metadata import copy_metadata
from envol.storage.place import Database, Place
from envol.storage.records import Compared
from envol.storage.store import Store
from envol.storage.waiting import OPENING

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and of how much."""
_DRAFT = ".move"


def move(source: Store, target: Place, progress: Progress = lambda *_: None) -> list[Compared]:
    """Copy a store with its history to a place where there is none of the project, and compare all of it.

    Nothing of the source changes. Its prediction log stays in its folder. No run may be active, which the
    caller sees to.

    Returns:
        What was compared; all of it is equal.

    Raises:
        NotFoundError: the source has nothing.
        UserError: the target has something of the project.
        StorageError: a side cannot be read or written, or something is not equal; then the target has no
            store, and the same call begins again.
    """
    if not source.exists():
        raise NotFoundError("there is nothing to move", remedy="run the project first, or just set [storage]")
    with _alone(target):
        _take_back(target)
        if Store(target).exists():
            raise UserError(
                f"{_shown(target)} has something of this project already",
                remedy="name another place; where a move was broken off at its very end, all of it is there",
            )
        draft = _Draft.at(target)
        compared = _move_artifacts(source, target, draft, progress)
        compared += _move_lake(source.place, draft, progress)
        with closing(Metadata(draft.metadata)) as metadata:
            compared += copy_metadata(source.metadata, metadata, progress)
        different = [f"{one.part} {one.name}" for one in compared if not one.equal]
        if different:
            raise StorageError(
                f"what was copied to {_shown(target)} is not equal: {', '.join(dict.fromkeys(different))}",
                remedy="remove what was copied there, and move it again while nothing writes to the project",
            )
        draft.publish()
    return compared


@dataclass(frozen=True)
class _Draft:
    """The metadata and the catalog at the target, before they are found there."""

    target: Place
    ground: Ground
    metadata: Path | Database
    folder: Path

    @classmethod
    def at(cls, target: Place) -> _Draft:
        """An empty draft; one that was left behind is removed."""
        folder = target.folder / _DRAFT
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        ground = Ground.of(target)
        if target.database is None:
            return cls(target, replace(ground, catalog=CatalogFile(folder)), folder / FILE_NAME, folder)
        from envol.storage.postgres import drop_draft

        database = replace(target.database, draft=True)
        drop_draft(database)
        return cls(target, replace(ground, catalog=CatalogSchema(database, OPENING)), database, folder)

    def publish(self) -> None:
        """Make it what is found at the target."""
        if self.target.database is not None:
            from envol.storage.postgres import publish_draft

            publish_draft(replace(self.target.database, draft=True), self.target.database)
        else:
            made = [name for name in (CATALOG, FILE_NAME) if (self.folder / name).exists()]
            for name in made:
                _settle(self.folder / name)
            for name in made:
                (self.folder / name).rename(self.target.folder / name)
            flush(self.target.folder)
        shutil.rmtree(self.folder)


def _move_artifacts(source: Store, target: Place, draft: _Draft, progress: Progress) -> list[Compared]:
    """Copy the artifacts, and fetch them back; each is verified by its digest."""
    digests = source.artifacts.digests()
    with Store(target) as store:
        there = set(store.artifacts.digests())
        for number, digest in enumerate(digests, start=1):
            if digest not in there:
                store.artifacts.put(source.artifacts.get(digest))
            progress("artifacts", number, len(digests))
    # A folder of its own for what is fetched: what was just put is still in the other's.
    with Store(replace(target, folder=draft.folder) if target.data else target) as store:
        for number, digest in enumerate(digests, start=1):
            store.artifacts.get(digest)
            progress("artifacts compared", number, len(digests))
        copied = len(set(digests) & set(store.artifacts.digests()))
    return [Compared("artifacts", "all", "folders", len(digests), copied, copied == len(digests))]


def _move_lake(source: Place, draft: _Draft, progress: Progress) -> list[Compared]:
    old, new = Ground.of(source), draft.ground
    if not old.catalog.exists():
        return []
    new.files.prepare_folder()
    with _explained(old, new), closing(instance([old, new])) as database:
        attach_catalogs(database, old, new)
        files = copy_files(old.files, new.files, unneeded_files(database), progress)
        past = past_files(database)
        copy_catalog(database)
        compared = compare_lakes(database, old, new, progress)
    return [*compared, compare_files(old.files, new.files, files, past, progress)]


def _take_back(target: Place) -> None:
    """Undo the first of the two renames in a folder, where a move was cut off between them."""
    draft = target.folder / _DRAFT
    there = [(folder / name).exists() for folder in (target.folder, draft) for name in (CATALOG, FILE_NAME)]
    if target.database is None and there == [True, False, False, True]:
        (target.folder / CATALOG).rename(draft / CATALOG)


@contextmanager
def _alone(target: Place) -> Iterator[None]:
    """Wait for another process that moves something to the same place."""
    make_folder(target.folder)
    if target.database is None:
        pen = FilePen(target.folder / f"{_DRAFT}.lock")
        with pen.held():
            yield
        return
    from envol.storage.postgres import server
    from envol.storage.postgres_pen import Pen

    shared = Pen(target.database, f"move {target.database.schema}", server(target.database))
    with closing(shared), shared.held():
        yield


@contextmanager
def _explained(old: Ground, new: Ground) -> Iterator[None]:
    try:
        yield
    except (*old.catalog.faults, *new.catalog.faults) as error:
        problem, remedy = new.explanation(str(error))
        raise StorageError(
            f"the lake cannot be copied from {old} to {new}: {problem}", remedy=remedy
        ) from error


def _settle(path: Path) -> None:
    """Have a SQLite file hold everything by itself, so that it can be renamed."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    flush(path)


def _shown(place: Place) -> str:
    return " and ".join(str(part) for part in (place.database or place.folder, place.data) if part)
