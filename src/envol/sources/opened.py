"""Files and where they are: on this machine, on S3, or in any file system that Arrow knows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from envol.errors import ConfigError, Failure

if TYPE_CHECKING:
    from pathlib import Path

    from pyarrow import fs

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class File:
    """A file in a file system."""

    system: fs.FileSystem
    path: str

    def stream(self) -> Any:
        """Its bytes, decompressed where the name ends in .gz, .zst, .bz2 or .lz4."""
        return self.system.open_input_stream(self.path)


def located(path: str, root: Path, system: fs.FileSystem | None) -> tuple[fs.FileSystem, str]:
    """The file system of a path, and the path in it.

    Credentials, region and address of S3 come from the usual AWS_* variables, files and roles.
    """
    from pyarrow import fs

    scheme, separator, rest = path.partition("://")
    if system is not None:
        return system, rest if separator else path
    if not separator:
        return fs.LocalFileSystem(), str(root / path)
    if scheme != "s3":
        raise ConfigError(
            f"{path}: {scheme}:// is not known",
            remedy="write s3:// or a path, or pass a file system of pyarrow.fs as `filesystem`",
        )
    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return fs.S3FileSystem(endpoint_override=address, region=region), rest


def matching(system: fs.FileSystem, pattern: str) -> list[str]:
    """Paths of the files that a pattern matches, sorted; `*`, `?`, `[...]` in names, `**` for any folders.

    Raises:
        Failure: the folder cannot be listed, the bucket does not exist.
    """
    from pyarrow import fs

    try:
        found = sorted(set(_matching(system, "", pattern.split("/"))))
        if not found and system.type_name == "s3":
            bucket = pattern.partition("/")[0]
            if system.get_file_info(bucket).type == fs.FileType.NotFound:
                raise FileNotFoundError(f"there is no bucket {bucket!r}")
        return found
    except OSError as error:
        raise Failure(
            f"{pattern} cannot be read: {error}",
            remedy="check that it is there, and the rights or credentials to read it",
        ) from None


def _matching(system: fs.FileSystem, folder: str, parts: list[str]) -> Iterator[str]:
    from pyarrow import fs

    plain = 0
    while plain < len(parts) and not _WILD.search(parts[plain]):
        plain += 1
    folder = "/".join([*([folder] if folder else []), *parts[:plain]])
    if plain == len(parts):
        if system.get_file_info(folder).type == fs.FileType.File:
            yield folder
        return
    part, rest = parts[plain], parts[plain + 1 :]
    if part == "**":
        yield from _matching(system, folder, rest)
    for entry in system.get_file_info(fs.FileSelector(folder or "/", allow_not_found=True)):
        is_folder = entry.type == fs.FileType.Directory
        if part == "**" and is_folder:
            yield from _matching(system, entry.path, parts[plain:])
        elif fnmatchcase(entry.base_name, part) and entry.base_name.startswith(".") <= part.startswith("."):
            if rest and is_folder:
                yield from _matching(system, entry.path, rest)
            elif not rest and entry.type == fs.FileType.File:
                yield entry.path
