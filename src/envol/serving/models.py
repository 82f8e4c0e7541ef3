"""The champions that are served: loaded, warmed up, and followed as the registry changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from envol.errors import EnvolError
from envol.registry import CHAMPION, Package, Registry, Version

logger = logging.getLogger("envol.serving")

EXAMPLE_FILE = "input_example.json"  # MLflow's name
POLL_SECONDS = 0.5
RETRY_SECONDS = 10.0


@dataclass(frozen=True)
class Served:
    """One model of the registry, as it is served.

    Args:
        name: the model's.
        versions: its versions, oldest first.
        champion: the version that holds the alias; None when none does.
        package: what answers now; an older version than the champion while that does not load.
        example: a row that the package accepts, as in JSON.
        warning: why the champion is not what answers.
    """

    name: str
    versions: tuple[Version, ...]
    champion: Version | None = None
    package: Package | None = None
    example: Mapping[str, Any] = field(default_factory=dict)
    warning: str | None = None

    @property
    def version(self) -> Version | None:
        """The registry's record of the version that answers."""
        number = self.package.version if self.package else None
        return next((version for version in self.versions if version.version == number), None)


class Champions:
    """The champion of every model, kept in step with the registry by a thread that polls its revision.

    A new package is loaded and has made a first prediction before it replaces the old one, so no request
    waits for it. One that does not load leaves the old one in place, and is tried again from time to time.

    Args:
        registry: where the champions come from.
        poll: seconds between two looks at the registry's revision.
        retry: seconds until a package that failed to load is tried again.
    """

    def __init__(self, registry: Registry, poll: float = POLL_SECONDS, retry: float = RETRY_SECONDS) -> None:
        self._registry = registry
        self._poll = poll
        self._retry = retry
        self._models: Mapping[str, Served] = MappingProxyType({})
        self._revision: int | None = None
        self._tried = 0.0
        self._trouble: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def models(self) -> Mapping[str, Served]:
        """Every model of the registry by name: one snapshot, replaced as a whole."""
        return self._models

    @property
    def trouble(self) -> str | None:
        """Why the registry cannot be followed at the moment; None when it can."""
        return self._trouble

    def start(self) -> None:
        """Load the champions, then follow the registry in a thread until `stop`.

        Raises:
            EnvolError: the registry cannot be read.
        """
        self.refresh()
        self._thread = threading.Thread(target=self._follow, name="champions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is loaded stays loaded."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def refresh(self) -> None:
        """Bring the champions in step with the registry, if it changed or a load is to be tried again."""
        revision = self._registry.revision()
        failed = any(served.warning for served in self._models.values())
        if revision == self._revision and not (failed and time.monotonic() - self._tried > self._retry):
            return
        versions: dict[str, list[Version]] = {}
        for version in self._registry.versions():
            versions.setdefault(version.model, []).append(version)
        self._models = MappingProxyType(
            {name: self._serve(name, tuple(found)) for name, found in sorted(versions.items())}
        )
        self._revision, self._tried = revision, time.monotonic()

    def _serve(self, name: str, versions: tuple[Version, ...]) -> Served:
        before = self._models.get(name) or Served(name, versions)
        champion = next((version for version in versions if CHAMPION in version.aliases), None)
        if champion is None:
            return Served(name, versions)
        if before.package is not None and before.package.version == champion.version:
            return Served(name, versions, champion, before.package, before.example)
        try:
            package = self._registry.load(name, champion.version)
            example = warm_up(package)
        except EnvolError as error:
            warning = f"version {champion.version} is the champion, but does not load: {error}"
        except Exception as error:  # a package runs its author's code, which may raise anything
            logger.exception("loading version %s of %s", champion.version, name)
            warning = (
                f"version {champion.version} is the champion, but fails: {type(error).__name__}: {error}"
            )
        else:
            logger.info("serving version %s of %s", champion.version, name)
            return Served(name, versions, champion, package, example)
        logger.warning("model %s: %s", name, warning)
        return Served(name, versions, champion, before.package, before.example, warning)

    def _follow(self) -> None:
        while not self._stop.wait(self._poll):
            try:
                self.refresh()
            except Exception as error:  # the registry may be away for a while; the thread must live on
                if self._trouble is None:
                    logger.warning("the registry cannot be followed", exc_info=True)
                self._trouble = f"the registry cannot be read: {error}"
            else:
                self._trouble = None


def warm_up(package: Package) -> dict[str, Any]:
    """Predict the package's input example, as a request would; returns its first row."""
    split = msgspec.json.decode((package.path / EXAMPLE_FILE).read_bytes())
    rows = [dict(zip(split["columns"], values, strict=True)) for values in split["data"]]
    for batch in (rows, rows[:1]):
        frame, problems = package.signature.from_rows(batch)
        if problems:
            raise ValueError(f"the package refuses its own input example: {problems[0]}")
        package.predict(frame, checked=True)
    return rows[0]
