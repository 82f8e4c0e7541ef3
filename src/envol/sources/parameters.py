"""Named parameters of a query, as the drivers want them."""

from __future__ import annotations

import re

_PATTERN = r"""
    {text} | "(?:[^"]|"")*" | `[^`]*` | (\$\w*\$).*?\1   # in quotes
    | --[^\n]* | /\*.*?\*/                             # a comment
    | :: | \\:
    | (?<![\w:]):(?P<name>[A-Za-z_]\w*)
"""
_STANDARD = re.compile(_PATTERN.replace("{text}", r"'(?:[^']|'')*'"), re.DOTALL | re.VERBOSE)
_MYSQL = re.compile(_PATTERN.replace("{text}", r"'(?:[^'\\]|\\.|'')*'"), re.DOTALL | re.VERBOSE)


def compiled(query: str, *, mysql: bool) -> tuple[str, list[str]]:
    """The query with a driver's placeholders, and the name that each of them stands for.

    Args:
        query: one statement; `:name` outside of quotes and comments is a parameter, `\\:` a colon.
        mysql: placeholders are `?`, one for each use; else `$1`, `$2`..., one for each name.
    """
    names: list[str] = []

    def placeholder(found: re.Match[str]) -> str:
        name = found["name"]
        if name is None:
            return ":" if found[0] == "\\:" else found[0]
        if mysql or name not in names:
            names.append(name)
        return "?" if mysql else f"${names.index(name) + 1}"

    return (_MYSQL if mysql else _STANDARD).sub(placeholder, query.strip().rstrip(";")), names
