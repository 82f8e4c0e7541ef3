"""Where a lake is, and the DuckDB that can attach it."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import duckdb

from envol.storage.catalogs import Catalog, CatalogFile, CatalogSchema
from envol.storage.files import FolderFiles
from envol.storage.place import Place
from envol.storage.waiting import OPENING

if TYPE_CHECKING:
    from envol.storage.bucket_files import BucketFiles

META = "__ducklake_metadata_lake"
"""Name under which DuckLake attaches the catalog itself."""
TRANSIENT = ("database is locked", "database table is locked", "conflict", "retry count")
"""What an error says that trying once more may mend."""

Files: TypeAlias = "FolderFiles | BucketFiles"
Result = TypeVar("Result")
Cursor = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class Ground:
    """Where a lake is: its catalog, its files, and a folder on this machine."""

    folder: Path
    catalog: Catalog
    files: Files

    @classmethod
    def of(cls, place: Place, opening: float = OPENING) -> Ground:
        """The lake of a store.

        Args:
            opening: seconds to wait for servers that nothing was heard of yet.

        Raises:
            UserError: what is needed to reach it is not installed or not set.
        """
        catalog = (
            CatalogFile(place.folder) if place.database is None else CatalogSchema(place.database, opening)
        )
        if place.data is None:
            return cls(place.folder, catalog, FolderFiles(place.folder))
        from envol.storage.bucket_files import BucketFiles

        return cls(place.folder, catalog, BucketFiles(place.data, opening))

    def __str__(self) -> str:
        return " and ".join(name for name in (self.catalog.name, self.files.name) if name)

    def awaited(self, work: Callable[[], Result]) -> Result:
        """Do the work, and again from its start while a server is away."""
        return self.catalog.awaited(lambda: self.files.awaited(work))

    def instance(self) -> Cursor:
        """A DuckDB instance that can attach the lake."""
        return instance([self])

    def attach(
        self, database: Cursor, name: str = "lake", *, source: str | None = None, read_only: bool = False
    ) -> None:
        """Attach the lake under a name."""
        # The data path is given anew each time, so that the folder can be moved or copied.
        settings = [
            f"DATA_PATH {literal(self.files.path)}",
            "OVERRIDE_DATA_PATH true",
            "DATA_INLINING_ROW_LIMIT 0",
            *self.catalog.options,
        ]
        if read_only:
            settings.append("READ_ONLY")
        lake = literal(f"ducklake:{source or self.catalog.source}")
        database.execute(f"ATTACH {lake} AS {name} ({', '.join(settings)})")

    def explanation(self, text: str) -> tuple[str, str]:
        """What an error of DuckDB or the disk means and what to do."""
        found = self.catalog.explanation(text) or self.files.explanation(text)
        if found is not None:
            return found
        if any(word in text.lower() for word in TRANSIENT):
            return "another program keeps it locked", "find the program that writes to it, or end it"
        return text.split("\n\nStack Trace")[0], f"check the space and the permissions of {self}"


def instance(grounds: Sequence[Ground]) -> Cursor:
    """A DuckDB instance that can attach some lakes; nothing is downloaded where the packages are."""
    needed = [name for ground in grounds for name in (ground.catalog.extension, ground.files.extension)]
    extensions = [*dict.fromkeys(name for name in needed if name is not None), "ducklake"]
    files = [_packaged(extension) for extension in extensions]
    installed = all(file.exists() for file in files)
    database = duckdb.connect(
        config={
            # Verifying the signatures takes 0.3 s each time, and these files came with the Python packages,
            # whose code runs unverified as well. What DuckDB downloads instead is verified.
            "allow_unsigned_extensions": installed,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "temp_directory": str(grounds[0].folder / ".duckdb-temporary"),
        }
    )
    for extension, file in zip(extensions, files, strict=True):
        if installed:
            database.execute(f"LOAD {literal(str(file))}")
        else:
            database.install_extension(extension)
            database.load_extension(extension)
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    # Windows are replaced all the time: what is kept of their files would grow, and hardly be read again.
    database.execute("SET GLOBAL enable_external_file_cache = false")
    with suppress(duckdb.InvalidInputException):  # notebooks without widgets refuse, and show none
        database.execute("SET enable_progress_bar = false")  # it would stand among what scripts read
    for ground in grounds:
        ground.files.prepare(database)
    return database


def literal(text: str) -> str:
    """The text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def _packaged(extension: str) -> Path:
    """Where the package `duckdb-extension-...` keeps the extension."""
    package = Path(sysconfig.get_path("purelib")) / f"duckdb_extension_{extension}"
    return package / "extensions" / f"v{duckdb.__version__}" / f"{extension}.duckdb_extension"
