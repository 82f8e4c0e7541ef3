"""What is to be known of the disk under a store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from envol.errors import StorageError

_LITTLE_BYTES = 100_000


def is_full(folder: Path) -> bool:
    """Whether the disk of the folder has next to no space left."""
    try:
        return shutil.disk_usage(folder).free < _LITTLE_BYTES
    except OSError:
        return False


def make_folder(path: Path) -> Path:
    """Make the folder of a store, with what is above it, unless it is there.

    Raises:
        StorageError: a file is in its place, or it may not be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise StorageError(
            f"the store {path} cannot be made: a file is in its place",
            remedy="move that file away, or name another folder: `path` under [storage] in envol.toml",
        ) from None
    except OSError as error:
        raise StorageError(
            f"the store {path} cannot be made: {error.strerror}",
            remedy=f"check the space and the permissions of {path.parent}",
        ) from error
    return path


def flush(path: Path) -> None:
    """Have a file, or what a folder lists, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
