"""The documentation holds: its commands and code run, its links lead somewhere, its references are complete.

In ```console blocks each line that begins with "$ " is run in a shell, and must end with exit code 0, or with
the number shown below `$ echo $?` where that follows. ```python blocks run in Python, those of a page in one
namespace. All other blocks are not run. The tutorial makes the project that the other pages go on with, over
fewer days than it says; each page leaves it as it found it.

`python tests/test_docs.py` writes docs/reference/cli.md anew.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
CLI = DOCS / "reference" / "cli.md"
TUTORIAL = DOCS / "tutorial.md"
WRITTEN = sorted(page for page in DOCS.rglob("*.md") if "decisions" not in page.parts)
PAGES = [REPOSITORY / "README.md", *WRITTEN]
PATIENCE = 120
LAST_DAY = "2025-02-05"  # of the pumps' data: two trainings are enough here

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_EXIT = "echo $?"
_INTERPRETER = """
import contextlib, io, json, sys, traceback
spaces = {}
for line in sys.stdin:
    page, code = json.loads(line)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            exec(compile(code, page, "exec"), spaces.setdefault(page, {"__name__": "__main__"}))
            error = ""
        except BaseException:
            error = traceback.format_exc()
    print(json.dumps([said.getvalue(), error]), flush=True)
"""


@dataclass(frozen=True)
class Command:
    """A line after "$ ", and the exit code that the page says it has."""

    text: str
    code: int


def commands(block: str) -> list[Command]:
    """The commands of a console block; `echo $?` tells the code of the one before."""
    lines = block.replace("\\\n", "").splitlines()
    found: list[Command] = []
    for number, line in enumerate(lines):
        if line.startswith("$ "):
            text = line.removeprefix("$ ")
            if text == _EXIT:
                found[-1] = Command(found[-1].text, int(lines[number + 1]))
            else:
                found.append(Command(text, 0))
    return found


class Reader:
    """Somebody who types what the pages say, in a shell and in a Python of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "service.log"
        self._port = _free_port()
        self._service: subprocess.Popen[str] | None = None
        self._python: subprocess.Popen[str] | None = None
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("ENVOL_")
        }
        self._environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ENVOL_PROJECT_END": LAST_DAY,
            "ENVOL_SERVE_PORT": str(self._port),
            "COLUMNS": "120",
        }

    def follow(self, page: Path) -> None:
        """Run all that the page says can be run."""
        name = str(page.relative_to(REPOSITORY))
        try:
            for language, block in _FENCE.findall(page.read_text()):
                if language == "console":
                    for command in commands(block):
                        self._type(name, command)
                elif language == "python":
                    self._execute(name, block)
        finally:
            self._stop_serving()

    def close(self) -> None:
        if self._python is not None:
            assert self._python.stdin is not None
            self._python.stdin.close()
            self._python.wait(PATIENCE)

    def _type(self, page: str, command: Command) -> None:
        if command.text.startswith("cd "):
            self.folder = self.folder / command.text.removeprefix("cd ")
        elif command.text == "envol serve":
            self._serve()
        elif command.text.startswith("curl ") and shutil.which("curl") is None:
            return  # the pages show the same call in Python
        else:
            text = command.text.replace(":8000", f":{self._port}")
            done = subprocess.run(
                ["bash", "-c", text],
                cwd=self.folder,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            assert done.returncode == command.code, f"{page}: {text}\n{done.stdout}\n{done.stderr}"

    def _execute(self, page: str, code: str) -> None:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", _INTERPRETER],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._python.stdin is not None and self._python.stdout is not None
        self._python.stdin.write(json.dumps([page, code.replace(":8000", f":{self._port}")]) + "\n")
        self._python.stdin.flush()
        _, error = json.loads(self._python.stdout.readline())
        assert not error, f"{page}:\n{code}\n{error}"

    def _serve(self) -> None:
        with self._log.open("w") as output:
            self._service = subprocess.Popen(
                ["envol", "serve"],
                cwd=self.folder,
                env=self._environment,
                stdout=output,
                stderr=output,
                text=True,
            )
        until = time.monotonic() + PATIENCE
        while "is served at" not in self._log.read_text():
            assert self._service.poll() is None and time.monotonic() < until, self._log.read_text()
            time.sleep(0.05)

    def _stop_serving(self) -> None:
        if self._service is not None:
            self._service.send_signal(signal.SIGINT)
            assert self._service.wait(PATIENCE) == 0, self._log.read_text()
            self._service = None


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who has worked through the tutorial."""
    reader = Reader(tmp_path_factory.mktemp("docs"))
    try:
        reader.follow(TUTORIAL)
        yield reader
    finally:
        reader.close()


@pytest.mark.parametrize(
    "page", [page for page in WRITTEN if page != TUTORIAL], ids=lambda page: str(page.relative_to(DOCS))
)
def test_what_a_page_says_can_be_done(page: Path, reader: Reader) -> None:
    reader.follow(page)


def test_the_project_of_the_readme_is_declared_rightly(tmp_path: Path) -> None:
    from envol.project import load_project

    [code] = [
        block
        for language, block in _FENCE.findall((REPOSITORY / "README.md").read_text())
        if language == "python"
    ]
    (tmp_path / "readme_flights.py").write_text(code)
    (tmp_path / "envol.toml").write_text('[project]\nname = "flights"\nstart = "2013-01-01"\n')
    project = load_project(tmp_path)
    assert list(project.definitions) == list(project.graph.nodes)
    assert {"flights", "arrivals", "departures", "delay_risk"} <= set(project.graph.nodes)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown renderers make them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_the_site_lists_every_page() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (REPOSITORY / "mkdocs.yml").read_text()))
    assert listed >= {str(page.relative_to(DOCS)) for page in WRITTEN}
    assert all((DOCS / page).is_file() for page in listed)


def test_every_key_of_the_configuration_is_described() -> None:
    from envol.project.config import Config

    text = (DOCS / "reference" / "config.md").read_text()
    for section in msgspec.structs.fields(Config):
        assert f"[{section.name}]" in text
        if isinstance(section.type, type) and issubclass(section.type, msgspec.Struct):
            described = text.partition(f"## [{section.name}]")[2].partition("\n## ")[0]
            for field in msgspec.structs.fields(section.type):
                assert f"| `{field.name}` |" in described, f"{section.name}.{field.name}"


@pytest.mark.parametrize("name", ["source", "table", "model", "value"])
def test_every_argument_of_a_decorator_is_described(name: str) -> None:
    import envol

    text = (DOCS / "reference" / "decorators.md").read_text()
    described = text.partition(f"## @{name}")[2].partition("\n## ")[0]
    for argument in inspect.signature(getattr(envol, name)).parameters:
        assert f"| `{argument}` |" in described, argument


def test_every_kind_of_error_is_described() -> None:
    from envol import errors

    text = (DOCS / "reference" / "errors.md").read_text()
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert [kind.__name__ for kind in kinds if f"`{kind.__name__}`" not in text] == []


def test_the_commands_are_described_as_they_are() -> None:
    assert CLI.read_text() == cli_page(), "write it anew: python tests/test_docs.py"


def cli_page() -> str:
    """docs/reference/cli.md, out of what each verb says of itself."""
    overview = _help()
    parts = [
        "# Commands\n",
        "What `envol VERB --help` prints. Exit codes are in [errors](errors.md#exit-codes).\n",
    ]
    parts.append(f"```text\n{overview}```\n")
    for verb in _verbs(overview):
        told = _help(verb)
        parts.append(f"## envol {verb}\n\n```text\n{told}```\n")
        parts += [f"### envol {verb} {inner}\n\n```text\n{_help(verb, inner)}```\n" for inner in _verbs(told)]
    return "\n".join(parts)


def _verbs(told: str) -> list[str]:
    """The verbs that a help lists."""
    listed = told.partition("Commands:\n")[2].partition("\n\n")[0]
    return re.findall(r"^  (\w+)  +\S", listed, re.MULTILINE)


def _help(*verb: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "envol.cli", *verb, "--help"],
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


if __name__ == "__main__":
    CLI.write_text(cli_page())
