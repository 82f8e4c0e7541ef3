"""The errors Envol raises: what is wrong, where, and what to do about it.

Two families decide the exit code of a command. A `UserError` (exit code 2) is put right by changing
the project or the call; a `Failure` (exit code 1) is something that went wrong while doing as told:
data, disk, another service.
"""

from __future__ import annotations


class EnvolError(Exception):
    """Base of all errors of Envol.

    Args:
        message: what is wrong, one sentence.
        node: name of the node it happened in, if any.
        window: key of the window it happened in, if any (for example "2013-01-05").
        remedy: what the reader can do about it, one sentence.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        node: str | None = None,
        window: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.node = node
        self.window = window
        self.remedy = remedy

    def __str__(self) -> str:
        place = ", ".join(
            f"{word} {value}" for word, value in (("node", self.node), ("window", self.window)) if value
        )
        text = f"{place}: {self.message}" if place else self.message
        return f"{text}\n  -> {self.remedy}" if self.remedy else text

    def located(self, *, node: str | None = None, window: str | None = None) -> EnvolError:
        """Fill in the node and window where they are not known yet; returns the same error."""
        self.node = self.node or node
        self.window = self.window or window
        return self


class UserError(EnvolError):
    """Put right by changing the project or the call."""

    exit_code = 2


class ConfigError(UserError):
    """`envol.toml` or an `ENVOL_*` variable is wrong."""


class ProjectError(UserError):
    """A node is declared wrongly, the graph does not close, or a function returned the wrong thing."""


class NotFoundError(UserError):
    """A table, model, version or window that does not exist."""


class BusyError(UserError):
    """Another process holds what is needed."""


class LockMismatchError(UserError):
    """A package is to be loaded in an environment that breaks its locked requirements."""


class Failure(EnvolError):
    """Something went wrong while doing as told."""


class DataError(Failure):
    """Data that breaks a contract, has a changed type, or is missing."""


class StorageError(Failure):
    """The lake, the metadata database or the artifacts cannot be read or written."""


class CorruptArtifactError(StorageError):
    """An artifact's bytes do not match its digest."""
