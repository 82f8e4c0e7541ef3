"""`envol new`: a project that runs at once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PLACEHOLDER = "{{ name }}"
LONGEST_NAME = 64


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the project and its folder.")],
    path: Annotated[
        Path | None,
        typer.Option(
            "--path", metavar="FOLDER", help="Where to make it; here when left out.", show_default=False
        ),
    ] = None,
) -> None:
    """Start a project: a folder that runs at once."""
    from importlib.resources import files

    from envol.errors import StorageError, UserError

    _check_name(name)
    root = (Path.cwd() if path is None else path.expanduser()) / name
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} exists already", remedy="choose another name, or another folder: --path")
    made = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        _copy(files("envol.cli") / "template", root, name)
    except OSError as error:
        if made:
            shutil.rmtree(root, ignore_errors=True)
        raise StorageError(
            f"{root} cannot be written: {error.strerror}",
            remedy=f"check the space and the permissions of {root.parent}",
        ) from None
    print(f"made {root}")
    print(f"\n  cd {_shortest(root)}\n  envol run")


def _check_name(name: str) -> None:
    from envol.errors import UserError

    plain = name.isascii() and name[:1].isalpha() and name.replace("-", "_").isidentifier()
    if not plain or len(name) > LONGEST_NAME:
        raise UserError(
            f"{name!r} is no name for a project",
            remedy="use letters, digits, - and _, a letter first, at most 64",
        )
    if name in sys.stdlib_module_names or name == "envol":
        raise UserError(f"{name!r} is the name of a Python module", remedy="choose another")


def _copy(template: Traversable, target: Path, name: str) -> None:
    for entry in template.iterdir():
        if entry.name == "__pycache__":
            continue
        place = target / entry.name
        if entry.is_dir():
            place.mkdir(exist_ok=True)
            _copy(entry, place, name)
        else:
            text = entry.read_text(encoding="utf-8")
            place.write_text(text.replace(PLACEHOLDER, name), encoding="utf-8")


def _shortest(root: Path) -> Path:
    here = Path.cwd()
    return root.relative_to(here) if root.is_relative_to(here) else root
