"""One run at a time on a project, and a dead run frees its place at once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envol.errors import BusyError, StorageError
from envol.storage import make_folder

FILE_NAME = "run.lock"


@contextmanager
def run_lock(store_path: Path) -> Iterator[None]:
    """Hold the project's lock; the kernel frees it when the process ends, however it ends.

    Raises:
        BusyError: another process holds it.
        StorageError: the store or its lock file cannot be written.
    """
    path = make_folder(store_path) / FILE_NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}",
            remedy=f"check the space and the permissions of {store_path}",
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            raise BusyError(
                f"another run is active on this project (process {holder or 'unknown'})",
                remedy="wait for it to end, or end that process",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
