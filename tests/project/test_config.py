"""`envol.toml` is read strictly: each fault is named with its line, or with the variable it came from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from envol.errors import ConfigError
from envol.project.config import Config, place_in, read_config

GOOD = '[project]\nname = "small"\nstart = "2024-01-01"\n'


def read(folder: Path, text: str | bytes, **environment: str) -> Config:
    path = folder / "envol.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config(path, environment)


def refused(folder: Path, text: str | bytes, *parts: str, **environment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(folder, text, **environment)
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.exit_code == 2
    assert caught.value.remedy


def test_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert (config.project.timezone, config.project.end, config.project.modules) == ("UTC", None, ())
    assert (config.storage.path, config.run.workers) == (".envol", 0)
    assert (config.serve.host, config.serve.port) == ("127.0.0.1", 8000)
    assert config.parameters == {}


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        (GOOD + "[projcet]\nx = 1\n", "envol.toml:4: unknown key 'projcet'", "did you mean 'project'?"),
        (GOOD + 'timezon = "UTC"\n', "envol.toml:4: unknown key 'timezon'", "did you mean 'timezone'?"),
        (GOOD + "[serve]\n\nprot = 1\n", "envol.toml:6: unknown key 'prot'", "did you mean 'port'?"),
        (GOOD + "serve.prot = 1\n", "envol.toml:4: unknown key 'serve'", "known here: name, start"),
        ("serve.prot = 1\n" + GOOD, "envol.toml:1: unknown key 'prot'", "did you mean 'port'?"),
        ("serve = { prot = 1 }\n" + GOOD, "envol.toml:1: unknown key 'prot'", "did you mean 'port'?"),
        (GOOD + '"time zone" = 1\n', "envol.toml:4: unknown key 'time zone'", "did you mean 'timezone'?"),
        (GOOD + "[run]\nxyz = 1\n", "envol.toml:5: unknown key 'xyz'", "known here: workers"),
    ],
)
def test_an_unknown_key(tmp_path: Path, text: str, place: str, remedy: str) -> None:
    refused(tmp_path, text, place, remedy)


def test_the_line_is_that_of_the_key_in_its_own_section(tmp_path: Path) -> None:
    text = GOOD + "[parameters]\nport = 1\nworkers = 2\n\n[serve]\nhost = 'x'\nport = 'y'\n"
    refused(tmp_path, text, "envol.toml:10: serve.port: expected whole number, got text")
    text = "[storage]\npath = 'x'\n[parameters]\npth = 1\n[serve]\npth = 1\n" + GOOD
    refused(tmp_path, text, "envol.toml:6: unknown key 'pth'")


def test_keys_inside_of_texts_are_no_keys(tmp_path: Path) -> None:
    text = '[parameters]\nquery = """\n[serve]\nport = 1\n"""\n' + GOOD + "[serve]\nport = -1\n"
    refused(tmp_path, text, "envol.toml:10: serve.port")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "envol.toml:1: the section [project] is missing"),
        ('[project]\nname = "x"\n', "envol.toml:1: 'start' is missing in [project]"),
        ('\n\n[project]\nstart = "2024-01-01"\n', "envol.toml:3: 'name' is missing in [project]"),
    ],
)
def test_a_missing_key(tmp_path: Path, text: str, problem: str) -> None:
    refused(tmp_path, text, problem)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[serve]\nport = '80'", "envol.toml:5: serve.port: expected whole number, got text"),
        ("[serve]\nport = true", "envol.toml:5: serve.port: expected whole number, got true or false"),
        ("[serve]\nport = 70000", "envol.toml:5: serve.port"),
        ("[run]\nworkers = -1", "envol.toml:5: run.workers"),
        ("[storage]\npath = 1", "envol.toml:5: storage.path: expected text, got whole number"),
        ("[storage]\npath = ''", "envol.toml:5: storage.path"),
        ("modules = 'flights'", "envol.toml:4: project.modules: expected list, got text"),
        ("modules = ['a', 1]", "envol.toml:4: project.modules: expected text, got whole number"),
        ("[[parameters]]\nx = 1", "envol.toml:4: parameters: expected table, got list"),
        ("[[serve]]\nx = 1", "envol.toml:4: serve: expected table, got list"),
    ],
)
def test_a_value_of_another_kind(tmp_path: Path, line: str, problem: str) -> None:
    refused(tmp_path, GOOD + line + "\n", problem)


def test_parameters_are_free(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD + "[parameters]\nlimit = 3\n[parameters.rates]\nhalf = 0.5\n")
    assert config.parameters == {"limit": 3, "rates": {"half": 0.5}}


def test_dates_may_be_written_without_quotes(tmp_path: Path) -> None:
    config = read(tmp_path, "[project]\nname = 'x'\nstart = 2024-01-01\nend = 2024-01-02T06:00:00Z\n")
    assert config.project.start == "2024-01-01"
    assert config.project.end == "2024-01-02T06:00:00+00:00"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('timezone = "Europe/Pariss"\n', "envol.toml:4: timezone: 'Europe/Pariss' is not a known time zone"),
        ('end = "soon"\n', "envol.toml:4: end: 'soon' is not a date"),
        ('end = "2023-12-31"\n', "envol.toml:4: end (2023-12-31) is not after start (2024-01-01)"),
        ('end = "2024-01-01"\n', "envol.toml:4: end (2024-01-01) is not after start (2024-01-01)"),
    ],
)
def test_times_that_cannot_be(tmp_path: Path, lines: str, problem: str) -> None:
    refused(tmp_path, GOOD + lines, problem)


def test_a_start_that_is_no_date(tmp_path: Path) -> None:
    refused(tmp_path, "[project]\nname = 'x'\nstart = '1st of May'\n", "envol.toml:3: start: '1st of May'")


@pytest.mark.parametrize(
    ("text", "line"), [("[project\nname = 1", 1), ("a = 1\na = 2\n", 2), ("a = 1\n\nb = \n", 3), ('a = "', 1)]
)
def test_what_is_not_toml(tmp_path: Path, text: str, line: int) -> None:
    refused(tmp_path, text, f"envol.toml:{line}: not TOML")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbf" + GOOD.encode()).project.name == "small"


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    refused(tmp_path, b'[project]\nname = "\xff"', "cannot read", "envol.toml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "envol.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot read"):
        read_config(tmp_path / "envol.toml", {})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"no envol.toml in {tmp_path}")):
        read_config(tmp_path / "envol.toml", {})


def test_variables_override_the_file(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        GOOD + "[serve]\nport = 1\n",
        ENVOL_SERVE_PORT="9000",
        ENVOL_RUN_WORKERS="2",
        ENVOL_PROJECT_MODULES="a, b.c",
        ENVOL_PROJECT_END="2025-01-01",
        ENVOL_STORAGE_PATH="/data",
        HOME="/root",
    )
    assert (config.serve.port, config.run.workers, config.storage.path) == (9000, 2, "/data")
    assert (config.project.modules, config.project.end) == (("a", "b.c"), "2025-01-01")


def test_variables_supply_what_the_file_misses(tmp_path: Path) -> None:
    config = read(tmp_path, "", ENVOL_PROJECT_NAME="x", ENVOL_PROJECT_START="2024-01-01")
    assert config.project.name == "x"


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("ENVOL_SERVE_PORT", "eighty", "ENVOL_SERVE_PORT='eighty': expected whole number, got text"),
        ("ENVOL_SERVE_PORT", "", "ENVOL_SERVE_PORT=''"),
        ("ENVOL_SERVE_PORT", "99999", "ENVOL_SERVE_PORT='99999'"),
        ("ENVOL_RUN_WORKERS", "1.5", "ENVOL_RUN_WORKERS='1.5'"),
        ("ENVOL_PROJECT_NAME", "", "ENVOL_PROJECT_NAME=''"),
        ("ENVOL_PROJECT_TIMEZONE", "Mars", "ENVOL_PROJECT_TIMEZONE: timezone: 'Mars'"),
        ("ENVOL_PROJECT_END", "2020-01-01", "ENVOL_PROJECT_END: end (2020-01-01) is not after"),
        ("ENVOL_SERVE_PROT", "1", "unknown variable ENVOL_SERVE_PROT"),
    ],
)
def test_a_variable_that_is_wrong(tmp_path: Path, variable: str, value: str, problem: str) -> None:
    refused(tmp_path, GOOD, problem, **{variable: value})


def test_a_misspelt_variable_has_a_nearest_one(tmp_path: Path) -> None:
    refused(tmp_path, GOOD, "did you mean 'ENVOL_SERVE_PORT'?", ENVOL_SERVE_PROT="1")


def test_a_variable_of_a_section_that_is_none(tmp_path: Path) -> None:
    refused(tmp_path, "serve = 3\n" + GOOD, "serve: expected table", ENVOL_SERVE_PORT="1")


def test_where_a_key_stands(tmp_path: Path) -> None:
    read(tmp_path, GOOD + "[parameters]\nx = { y = 1 }\n[parameters.'two words']\nz.a = 1\n")
    path = tmp_path / "envol.toml"
    assert place_in(path, "parameters", "x", "y") == "envol.toml:5"
    assert place_in(path, "parameters", "two words", "z", "a") == "envol.toml:7"
    assert place_in(path, "nowhere") == "envol.toml:1"
