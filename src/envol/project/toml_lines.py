"""Where in a TOML text each key stands, which `tomllib` does not tell."""

from __future__ import annotations

import re
import tomllib

_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED = rf"({_KEY}(?:\s*\.\s*{_KEY})*)"
_HEADER = re.compile(rf"\s*\[\[?\s*{_DOTTED}\s*\]")
_ASSIGNMENT = re.compile(rf"\s*{_DOTTED}\s*=")


class TomlLines:
    """The lines of the keys of a TOML text."""

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, ...], int] = {}
        section: tuple[str, ...] = ()
        inside = ""  # the quotes of the text of several lines that a line belongs to
        for number, line in enumerate(text.splitlines(), start=1):
            if not inside:
                if header := _HEADER.match(line):
                    section = _parts(header[1])
                    self._add(section, number)
                elif assignment := _ASSIGNMENT.match(line):
                    self._add(section + _parts(assignment[1]), number)
            for quotes in re.findall(r'"""|' + "'''", line):
                inside = "" if inside == quotes else inside or quotes

    def of(self, *path: str) -> int:
        """The line of the key, or of the nearest one around it (1 when there is none)."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _add(self, path: tuple[str, ...], number: int) -> None:
        for length in range(1, len(path) + 1):
            self._lines.setdefault(path[:length], number)


def _parts(dotted: str) -> tuple[str, ...]:
    inner = tomllib.loads(f"{dotted} = 0")
    parts = []
    while isinstance(inner, dict):
        [(key, inner)] = inner.items()
        parts.append(key)
    return tuple(parts)
