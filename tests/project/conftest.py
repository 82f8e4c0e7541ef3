"""Projects written into a folder, as users write them."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envol.project import Project, load_project

CONFIG = '[project]\nname = "small"\nstart = "2024-01-01"\n'
HEADER = (
    "from __future__ import annotations\n"
    "import polars as pl\n"
    "from envol import Window, model, source, table, value\n"
)
SOURCE = """
@source()
def flights(window: Window) -> pl.DataFrame:
    return pl.DataFrame()
"""

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    """Loading a project puts its folder on the path, as the command line wants it; a test does not."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if not name.startswith(("envol", "polars", "pandas", "pyarrow", "dataframely", "numpy")):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a project: modules by file name, `HEADER` before each that says no other imports."""

    def write(
        files: dict[str, str] | str = SOURCE,
        config: str = "",
        *,
        folder: str = "project",
        modules: list[str] | None = None,
    ) -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        named = "" if modules is None else f"modules = {modules!r}\n"
        (root / "envol.toml").write_text(CONFIG + named + textwrap.dedent(config))
        for name, text in ({"nodes.py": files} if isinstance(files, str) else files).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(HEADER + textwrap.dedent(text))
        return root

    return write


@pytest.fixture
def load(write: Write) -> Callable[..., Project]:
    """Write a project as `write` does, and load it."""
    return lambda *given, **settings: load_project(write(*given, **settings), {})
