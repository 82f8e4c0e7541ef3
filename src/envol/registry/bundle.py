"""Copies a module of Envol and what it imports of Envol into a package, under a name of its own.

The name carries a hash of the sources, so that packages written by different versions of Envol can be
loaded side by side in one process.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ROOT = "envol"
_IMPORT = re.compile(rf"^(\s*)from {ROOT}\b", re.MULTILINE)


def bundle(module: str, folder: Path) -> str:
    """Write the sources below `folder`; returns the module's name there."""
    found = sources(module)
    content = "".join(f"{name}\n{text}" for name, text in sorted(found.items()))
    own = f"{ROOT}_{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    for name, text in found.items():
        path = folder / own / Path(*name.split(".")[1:]).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_IMPORT.sub(rf"\g<1>from {own}", text), encoding="utf-8")
        for parent in path.relative_to(folder).parents[:-1]:
            (folder / parent / "__init__.py").touch()
            # A file where Python would make a folder of byte code: loading must not change the package.
            (folder / parent / "__pycache__").touch()
    return module.replace(ROOT, own, 1)


@cache
def sources(module: str) -> dict[str, str]:
    """The source of a module of Envol and of each that it imports, by name; packages' own code left out."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None, name
        found[name] = Path(spec.origin).read_text(encoding="utf-8")
        waiting += _imported(ast.parse(found[name]).body)
    return found


def _imported(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{ROOT}."):
                yield str(node.module)
