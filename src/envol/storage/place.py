"""Where a project's store is: a folder, and for what several machines share a database and a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envol.errors import ConfigError

if TYPE_CHECKING:
    from envol.project import Project
    from envol.project.config import StorageSection

_LONGEST_SCHEMA = 63
"""Bytes of a name that PostgreSQL keeps."""


@dataclass(frozen=True)
class Database:
    """A PostgreSQL database, and the schemas that one project has in it.

    Args:
        url: libpq's URI, without a password.
        project: the project's name.
        draft: the schemas of a project that is being moved there, until all of it is.
    """

    url: str
    project: str
    draft: bool = False

    @property
    def schema(self) -> str:
        """Schema of the metadata."""
        return f"{'move' if self.draft else 'envol'}_{self.project}"

    @property
    def lake_schema(self) -> str:
        """Schema of the lake's catalog."""
        return f"{'mvlk' if self.draft else 'lake'}_{self.project}"

    def __str__(self) -> str:
        return f"{self.url} (schema {self.schema})"


@dataclass(frozen=True)
class Place:
    """Where everything of a project is kept.

    Args:
        folder: on this machine: locks, logs, caches and the prediction log, and what is not elsewhere.
        database: metadata and the lake's catalog; None keeps both in SQLite in the folder.
        data: `s3://...` of the tables' files and the artifacts; None keeps both in the folder.
    """

    folder: Path
    database: Database | None = None
    data: str | None = None

    @classmethod
    def of(cls, project: Project) -> Place:
        """What `[storage]` of the project says.

        Raises:
            ConfigError: the project's name is too long for a schema.
        """
        return cls.at(project, project.config.storage)

    @classmethod
    def at(cls, project: Project, section: StorageSection) -> Place:
        """What another `[storage]` would say."""
        database = None if section.url is None else Database(section.url, project.name)
        if database and len(database.schema.encode()) > _LONGEST_SCHEMA:
            raise ConfigError(
                f"the name {project.name!r} is too long for a schema of PostgreSQL",
                remedy=f"give the project a name of at most {_LONGEST_SCHEMA - len('envol_')} bytes",
            )
        data = None if section.data is None else f"{section.data.rstrip('/')}/{project.name}"
        return cls(project.root / section.path, database, data)
