"""Noticing that the files which a project is loaded from have changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from envol.errors import EnvolError
from envol.project import Project, load_project
from envol.project.config import FILE

Signature = frozenset[tuple[str, int, int]]
_SHARE = 0.02
"""Of the time that may go into looking."""
_LEFT_OUT = {"__pycache__", "node_modules", "site-packages"}
_ENVIRONMENT = "pyvenv.cfg"


class Watch:
    """Looks at times and sizes of a project's `.py` files and its `envol.toml`.

    Folders that are hidden, hold an environment or the project's store are left out.
    """

    def __init__(self, root: Path, store: Path) -> None:
        self._root, self._store = str(root), str(store)
        self._taken = self._last = self._look()
        self._pause_until = 0.0

    def take(self) -> None:
        """The project is about to be loaded: only later changes count."""
        self._taken = self._last = self._look()

    def has_changed(self) -> bool:
        """Whether something has changed since the last `take`, and nothing any more since the last look."""
        if time.monotonic() < self._pause_until:
            return False
        before, self._last = self._last, self._look()
        return self._last == before != self._taken

    def _look(self) -> Signature:
        began = time.monotonic()
        found = frozenset(self._files(self._root))
        ended = time.monotonic()
        self._pause_until = ended + (ended - began) / _SHARE
        return found

    def _files(self, folder: str) -> Iterator[tuple[str, int, int]]:
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError:  # it has gone meanwhile
            return
        if any(entry.name == _ENVIRONMENT for entry in listed):
            return
        for entry in listed:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not self._is_left_out(entry):
                        yield from self._files(entry.path)
                elif entry.name == FILE or entry.name.endswith(".py"):
                    told = entry.stat()
                    yield entry.path, told.st_mtime_ns, told.st_size
            except OSError:
                continue

    def _is_left_out(self, entry: os.DirEntry[str]) -> bool:
        return entry.name.startswith(".") or entry.name in _LEFT_OUT or entry.path == self._store


def store_has_moved(project: Project) -> bool:
    """Whether `envol.toml` names another store by now; not while it cannot be read."""
    try:
        now = load_project(project.root).config
    except EnvolError:
        return False
    was = project.config
    return (was.storage, was.project.name) != (now.storage, now.project.name)
