"""A project is found, imported as it is on disk, and told of its faults by file and line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from envol.errors import ConfigError, ProjectError
from envol.project import Project, load_project

Load = Callable[..., Project]
Write = Callable[..., Path]
SOURCE = "@source()\ndef {}(window: Window) -> pl.DataFrame:\n    return pl.DataFrame({{'x': [{}]}})\n"
HEADER_LINES = 3  # that `write` puts before each module


def names(project: Project) -> set[str]:
    return set(project.graph.nodes)


def made(project: Project, node: str = "s") -> object:
    frame = project.graph.nodes[node].function(None)
    assert isinstance(frame, pl.DataFrame)
    return frame.item()


def refused(project: Project, *parts: str) -> ProjectError:
    with pytest.raises(ProjectError) as caught:
        _ = project.graph
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.exit_code == 2
    assert caught.value.remedy
    return caught.value


def test_what_a_project_says(load: Load) -> None:
    project = load(SOURCE.format("s", 1), "[storage]\npath = 'data'\n")
    assert project.name == "small"
    assert project.store_path == project.root / "data"
    assert project.start.isoformat() == "2024-01-01T00:00:00+00:00"
    assert project.end is None
    assert project.calendar.name == "UTC"


def test_a_project_is_found_from_below(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(SOURCE.format("s", 1))
    (root / "notebooks" / "old").mkdir(parents=True)
    monkeypatch.chdir(root / "notebooks" / "old")
    assert load_project().root == root


def test_a_named_folder_is_not_searched_upwards(write: Write) -> None:
    root = write()
    (root / "notebooks").mkdir()
    with pytest.raises(ConfigError, match="no envol.toml in .*notebooks"):
        load_project(root / "notebooks")


def test_the_file_may_be_named_itself(write: Write) -> None:
    root = write()
    assert load_project(root / "envol.toml").root == root


def test_no_project_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="envol new NAME"):
        load_project()


def test_all_modules_of_the_folder_are_imported_but_tests(load: Load) -> None:
    files = ["a.py", "b-c.py", "setups.py", "_hidden.py", "test_a.py", "conftest.py", "setup.py", "lib/d.py"]
    sources = {name: SOURCE.format(f"s{index}", 1) for index, name in enumerate(files)}
    assert names(load(sources)) == {"s0", "s1", "s2"}


def test_only_named_modules_are_imported(load: Load) -> None:
    files = {"a.py": SOURCE.format("a", 1), "b.py": SOURCE.format("b", 1), "c/d.py": SOURCE.format("d", 1)}
    assert names(load(files, modules=["a", "c.d"])) == {"a", "d"}


def test_a_package(load: Load) -> None:
    files = {
        "flows/__init__.py": "from flows.second import b\n" + SOURCE.format("a", 1),
        "flows/second.py": "from . import helper\n" + SOURCE.format("b", "helper.X"),
        "flows/helper.py": "X = 5\n",
    }
    project = load(files, modules=["flows"])
    assert names(project) == {"a", "b"}
    assert made(project, "b") == 5


def test_nodes_of_a_module_that_another_imports_count(load: Load) -> None:
    files = {"main.py": "import other\n", "other.py": SOURCE.format("s", 1)}
    assert names(load(files, modules=["main"])) == {"s"}


def test_helpers_beside_and_below(load: Load) -> None:
    files = {
        "flow.py": "import helper\nfrom lib.deep import Y\n" + SOURCE.format("s", "helper.X + Y"),
        "helper.py": "X = 1\n",
        "lib/deep.py": "Y = 10\n",
    }
    assert made(load(files, modules=["flow"])) == 11


def test_no_node_at_all(load: Load) -> None:
    refused(load("x = 1\n"), "declares a node", "decorate a function with @source")


def test_a_missing_module(load: Load) -> None:
    project = load({"flights.py": SOURCE.format("s", 1)}, modules=["flihgts"])
    refused(project, f"there is no module 'flihgts' in {project.root}", "did you mean 'flights'?")


def test_a_missing_package(load: Load) -> None:
    refused(load(modules=["nowhere.at.all"]), "there is no module 'nowhere.at.all'")


@pytest.mark.parametrize("name", ["calendar", "polars"])
def test_a_module_that_python_already_has(load: Load, name: str) -> None:
    refused(load({f"{name}.py": SOURCE.format("s", 1)}, modules=[name]), f"the module {name!r} is", "rename")


def test_an_import_that_fails(load: Load) -> None:
    project = load({"a.py": "import helper\n", "helper.py": "x = 1\nimport not_there\n"}, modules=["a"])
    place = f"{project.root / 'helper.py'}:{HEADER_LINES + 2}"
    refused(project, f"importing a failed at {place}: ModuleNotFoundError: No module named 'not_there'")


def test_a_syntax_error(load: Load) -> None:
    project = load("def f(:\n")
    refused(project, f"{project.root / 'nodes.py'}:{HEADER_LINES + 1}: ")


def test_a_syntax_error_in_a_text(load: Load) -> None:
    project = load("x = 1\neval('1 +')\n")
    refused(project, f"{project.root / 'nodes.py'}:{HEADER_LINES + 2}: SyntaxError")


def test_an_exception(load: Load) -> None:
    project = load("def f():\n    return 1 / 0\nf()\n")
    refused(project, f"{project.root / 'nodes.py'}:{HEADER_LINES + 2}: ZeroDivisionError: division by zero")


def test_an_exception_inside_of_a_library_is_told_where_the_project_calls_it(load: Load) -> None:
    project = load("pl.DataFrame({'a': [1], 'b': [1, 2]})\n")
    refused(project, f"importing nodes failed at {project.root / 'nodes.py'}:{HEADER_LINES + 1}: ShapeError")


def test_a_library_installed_in_the_project_is_a_library(load: Load) -> None:
    files = {
        "a.py": "import sys\nsys.path.append(__file__[:-4] + 'env/site-packages')\nimport lib_there\n",
        "env/site-packages/lib_there.py": SOURCE.format("s", 1) + "1 / 0\n",
    }
    project = load(files, modules=["a"])
    refused(project, f"failed at {project.root / 'a.py'}:{HEADER_LINES + 3}: ZeroDivisionError")


def test_a_module_that_exits(load: Load) -> None:
    refused(load("import sys\nsys.exit(3)\n"), f"nodes.py:{HEADER_LINES + 2}: SystemExit: 3")


def test_a_wrong_declaration(load: Load) -> None:
    error = refused(load('@source(every="2d")\ndef s(window): ...\n'), "'2d' is not a period")
    assert error.node == "s"


def test_an_edited_file_is_seen_at_once(load: Load) -> None:
    first = load(SOURCE.format("s", 1))
    assert made(first) == 1
    assert made(load(SOURCE.format("s", 2))) == 2
    assert made(first) == 1


@pytest.mark.parametrize("helper", ["helper.py", "lib/helper.py", "lib/__init__.py"])
def test_an_edited_helper_is_seen_at_once(load: Load, helper: str) -> None:
    module = helper.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    flow = f"import {module}\n" + SOURCE.format("s", f"{module}.X")
    for value in (1, 2):
        assert made(load({"flow.py": flow, helper: f"X = {value}\n"}, modules=["flow"])) == value


def test_a_removed_helper_is_missed_at_once(load: Load) -> None:
    project = load({"flow.py": "import helper\n" + SOURCE.format("s", 1), "helper.py": ""}, modules=["flow"])
    assert made(project) == 1
    (project.root / "helper.py").unlink()
    refused(load_project(project.root, {}), "No module named 'helper'")


@pytest.mark.parametrize("helper", ["helper.py", "lib/helper.py", "lib/__init__.py"])
def test_two_projects_with_modules_of_one_name(load: Load, helper: str) -> None:
    module = helper.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    flow = f"import {module}\n" + SOURCE.format("s", f"{module}.X")
    both = [
        load({"flow.py": flow, helper: f"X = {value}\n"}, modules=["flow"], folder=f"project{value}")
        for value in (1, 2)
    ]
    assert [made(project) for project in both] == [1, 2]
    again = [load_project(project.root, {}) for project in both]
    assert [made(project) for project in again] == [1, 2]
    assert [made(project) for project in both] == [1, 2]


def test_a_folder_behind_a_link(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"flow.py": "import helper\n" + SOURCE.format("s", "helper.X"), "helper.py": "X = 1\n"}
    root = load(files, modules=["flow"]).root
    (tmp_path / "link").symlink_to(root)
    monkeypatch.syspath_prepend(str(tmp_path / "link"))
    __import__("flow")
    (root / "helper.py").write_text("X = 2\n")
    assert made(load_project(tmp_path / "link", {})) == 2


def test_a_symbolic_start_of_a_name_is_another_folder(load: Load) -> None:
    first = load(SOURCE.format("a", 1), folder="flow")
    assert names(first) == {"a"}
    assert names(load({"other.py": SOURCE.format("b", 1)}, folder="flow2")) == {"b"}


def test_loading_leaves_envol_and_libraries_alone(load: Load) -> None:
    before = {
        name: id(module) for name, module in sys.modules.items() if name.startswith(("envol", "polars"))
    }
    _ = load({"nodes.py": SOURCE.format("s", 1), "config.py": "X = 1\n", "polars/x.py": ""}).graph
    assert {name: id(sys.modules[name]) for name in before} == before


def test_no_bytecode_is_written_beside_the_modules(load: Load) -> None:
    project = load(SOURCE.format("s", 1))
    assert names(project) == {"s"}
    assert not (project.root / "__pycache__").exists()
