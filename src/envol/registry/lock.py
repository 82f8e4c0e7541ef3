"""The lock of a package: the versions its model was fitted with, compared with those installed here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from envol.errors import LockMismatchError

PYTHON = "python"


class Mismatch(NamedTuple):
    """A package whose installed version is not the locked one; `found` is None when it is not installed."""

    package: str
    locked: str
    found: str | None

    def __str__(self) -> str:
        return f"{self.package} {self.locked} is locked, {self.found or 'none'} is installed"


def make_lock(packages: Iterable[str]) -> dict[str, str]:
    """The installed version of each distribution, and Python's minor version."""
    return {PYTHON: _python(), **{name: version(name) for name in sorted(packages)}}


def mismatches(lock: Mapping[str, str]) -> list[Mismatch]:
    """Where this environment breaks the lock."""
    found = [Mismatch(name, locked, _installed(name)) for name, locked in lock.items()]
    return [each for each in found if each.found != each.locked]


def check_lock(lock: Mapping[str, str], package: str, **place: Any) -> None:
    """Refuse an environment that breaks the lock of `package`.

    Raises:
        LockMismatchError: it names each package with the locked and the installed version.
    """
    if broken := mismatches(lock):
        raise LockMismatchError(
            f"{package} was fitted in another environment: {'; '.join(map(str, broken))}",
            remedy="install the package's requirements.txt, or train the model again in this environment",
            **place,
        )


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _installed(name: str) -> str | None:
    if name == PYTHON:
        return _python()
    try:
        return version(name)
    except PackageNotFoundError:
        return None
