"""Text with placeholders: the window's instants, and secrets from the environment or from files.

| placeholder | is replaced by |
|---|---|
| `{start}`, `{end}` | the instant in ISO 8601, in the project's time zone: 2025-01-05T00:00:00+01:00 |
| `{start:utc}` | the same in UTC: 2025-01-04T23:00:00Z |
| `{start:epoch}` | seconds since 1970-01-01 UTC |
| `{start:%Y/%m/%d}` | as `strftime` writes it, in the project's time zone |
| `{window}` | the window's key: 2025-01-05 |
| `{env:NAME}` | the environment variable NAME |
| `{file:PATH}` | the text in the file, without white space around it |
"""

from __future__ import annotations

import os
import string
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from envol.errors import ConfigError, EnvolError, ProjectError
from envol.project.config import FILE
from envol.project.windows import Window

HIDDEN = "***"
_KNOWN = "start, end, window, env:NAME and file:PATH"


class Filler:
    """Fills in placeholders for one call of a connector, and keeps its secrets out of messages.

    Args:
        window: what `{start}`, `{end}` and `{window}` stand for; None: they are refused.
        root: where relative paths begin.
    """

    def __init__(self, window: Window | None, root: Path) -> None:
        self.root = root
        self.window_used = False
        self._secrets: set[str] = set()
        self._fields: dict[str, Any] = {"env": _Variables(self), "file": _Files(self)}
        if window is not None:
            self._fields |= {
                "start": _Instant(self, window.start),
                "end": _Instant(self, window.end),
                "window": _Key(self, window.key),
            }

    def fill(self, text: str) -> str:
        """The text with its placeholders filled in.

        Raises:
            ConfigError: a variable is not set, a file cannot be read.
            ProjectError: a placeholder is not known.
        """
        try:
            return string.Formatter().vformat(text, (), self._fields)
        except EnvolError:
            raise
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            if isinstance(error, KeyError) and error.args[0] in ("start", "end", "window"):
                problem, remedy = "there is no window to fill in", "pass the window to the connector"
            else:
                problem = f"a placeholder is not known ({error})"
                remedy = f"write one of {_KNOWN} in braces; double a brace that stands for itself"
            raise ProjectError(f"{text!r}: {problem}", remedy=remedy) from None

    def fill_all(self, value: Any) -> Any:
        """Every text in a value made of mappings and lists, filled in."""
        if isinstance(value, str):
            return self.fill(value)
        if isinstance(value, Mapping):
            return {name: self.fill_all(inner) for name, inner in value.items()}
        return [self.fill_all(inner) for inner in value] if isinstance(value, list | tuple) else value

    def keep_secret(self, text: str | None) -> None:
        """Never let the text into a message."""
        if text:
            self._secrets.add(text)

    def hide(self, message: object) -> str:
        """The message with every secret replaced."""
        text = str(message).strip()
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text


def project_root() -> Path:
    """The folder of `envol.toml` above the file that called Envol, or else above the current folder.

    The current folder itself where there is none, as in a notebook outside of a project.
    """
    frame, folders = sys._getframe(1), [Path.cwd() / "here"]
    while frame.f_back is not None:
        frame = frame.f_back
        file = frame.f_globals.get("__file__")
        if file and not str(frame.f_globals.get("__name__", "")).startswith("envol."):
            folders.insert(0, Path(file).resolve())
            break
    for start in folders:
        for folder in start.parents:
            if (folder / FILE).is_file():
                return folder
    return Path.cwd()


class _Instant:
    def __init__(self, filler: Filler, at: datetime) -> None:
        self._filler, self._at = filler, at

    def __format__(self, how: str) -> str:
        self._filler.window_used = True
        if how == "epoch":
            return str(int(self._at.timestamp()))
        if how == "utc":
            return f"{self._at.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"
        return self._at.strftime(how) if how else self._at.isoformat()


class _Key:
    def __init__(self, filler: Filler, key: str) -> None:
        self._filler, self._key = filler, key

    def __format__(self, how: str) -> str:
        self._filler.window_used = True
        return self._key


class _Variables:
    def __init__(self, filler: Filler) -> None:
        self._filler = filler

    def __format__(self, name: str) -> str:
        value = os.environ.get(name)
        if value is None:
            raise ConfigError(
                f"the environment variable {name!r} is not set", remedy="set it where Envol runs"
            )
        self._filler.keep_secret(value)
        return value


class _Files:
    def __init__(self, filler: Filler) -> None:
        self._filler = filler

    def __format__(self, path: str) -> str:
        try:
            value = (self._filler.root / path).read_text().strip()
        except OSError as error:
            raise ConfigError(
                f"the secret's file {path} cannot be read: {error.strerror}",
                remedy="give the path of a text file, absolute or below the project's folder",
            ) from None
        self._filler.keep_secret(value)
        return value
