"""Wrong projects and wrong calls: a clear line, a remedy, the right exit code, never a traceback."""

from __future__ import annotations

import subprocess

import pytest
from cli.machines import CONFIG, ENVOL, LONE, Project, Said


def _clear(said: Said, code: int, *parts: str) -> None:
    """The command ended so, with one error that says all of that."""
    assert said.code == code, said.out + said.err
    told = said.err or said.out
    assert "error: " in told or "failed: " in told
    assert "Traceback" not in said.out + said.err
    for part in parts:
        assert part in told, told


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (CONFIG + 'modulse = ["x"]\n', ["envol.toml:7", "'modulse'", "did you mean 'modules'?"]),
        ('[project]\nname = "x"\n', ["envol.toml", "'start' is missing"]),
        (CONFIG + "[serve]\nport = 'x'\n", ["envol.toml:8", "port"]),
        (CONFIG.replace("Europe/Paris", "Europe/Pari"), ["Europe/Pari", "time zone"]),
        ("name =", ["envol.toml:1", "not TOML"]),
    ],
)
def test_a_wrong_config_is_told_by_file_and_line(project: Project, config: str, parts: list[str]) -> None:
    project.write(LONE, config)
    _clear(project.envol("check"), 2, *parts)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("Window)", "Windwo)", ["readings", "Windwo"]),
        ("-> pl.DataFrame:", "-> pl.DataFrame", ["pipeline.py:", "expected ':'"]),
        ("contract=Reading", "contract=dict", ["readings", "dataframely"]),
        ('every="1d"', 'every="2d"', ["readings", "'2d' is not a period"]),
        ("window: Window", "window: Window, limit: int", ["readings", "limit", "[parameters.readings]"]),
    ],
)
def test_a_wrong_declaration_is_told(project: Project, old: str, new: str, parts: list[str]) -> None:
    project.write(LONE.replace(old, new))
    _clear(project.envol("check"), 2, *parts)


def test_a_function_that_returns_the_wrong_type(project: Project) -> None:
    project.write(LONE.replace("return pl.DataFrame(", "return dict("))
    _clear(project.envol("run"), 2, "node readings", "window 2024-01-01", "dict", "-> ")


def test_a_missing_column(project: Project) -> None:
    project.write(LONE.replace(', "heat": heat', ""))
    _clear(project.envol("run"), 1, "node readings", "window 2024-01-01", "'heat'", "contract Reading", "-> ")


def test_rows_that_all_break_the_contract(project: Project) -> None:
    project.write(LONE.replace('{row}" for row', '{row // 99}" for row'))
    _clear(project.envol("run"), 1, "all of 40 rows break the contract", "envol quarantine list readings")


def test_names_that_do_not_exist(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    _clear(project.envol("run", "--node", "reading"), 2, "'reading'", "did you mean 'readings'?")
    _clear(project.envol("plan", "--node", "reading"), 2, "did you mean 'readings'?")
    _clear(project.envol("models", "rsik"), 2, "'rsik'", "did you mean 'risk'?")
    _clear(project.envol("models", "risk", "7"), 2, "versions 1, 2")
    _clear(project.envol("promote", "risk", "7", "--reason", "x"), 2, "versions 1, 2")
    _clear(project.envol("promote", "risk", "1", "--reason", " "), 2, "reason")
    _clear(project.envol("rollback", "rsik", "--reason", "x"), 2, "did you mean 'risk'?")


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("selec 1", ["syntax error", "selec"]),
        ("select vibration from readings", ["vibration"]),
        ("select * from reading", ["reading", "readings"]),
        ("drop table readings", ["DROP", "SELECT"]),
        ("select 1; select 2", ["2 statements"]),
        ("copy readings to 'stolen.csv'", ["COPY"]),
    ],
)
def test_wrong_sql(ran: tuple[Project, Said], query: str, parts: list[str]) -> None:
    _clear(ran[0].envol("query", query), 2, *parts)


def test_tables_that_are_not_there_yet(project: Project) -> None:
    _clear(project.envol("query", "select 1"), 2, "no tables yet", "envol run")
    assert not (project.root / ".envol").exists()


def test_a_port_that_cannot_be(project: Project) -> None:
    _clear(project.envol("serve", "--port", "99999"), 2, "cannot listen")


def test_debug_shows_where_an_error_comes_from(project: Project) -> None:
    for said in (
        project.envol("plan", "--node", "x", "--debug"),
        project.envol("plan", "--node", "x", ENVOL_DEBUG="1"),
    ):
        assert said.code == 2
        assert "Traceback" in said.err and "error: no node is called 'x'" in said.err


def test_an_error_of_envol_itself_asks_for_debug(project: Project) -> None:
    (project.root / "envol.toml").write_text(CONFIG.replace('"Europe/Paris"', '"UTC"'))
    (project.root / "pipeline.py").write_text("raise SystemError('odd')\n")
    said = project.envol("check")
    assert said.code in (1, 2) and "odd" in said.err and "Traceback" not in said.err


def test_a_pipe_that_closes_is_no_error(ran: tuple[Project, Said]) -> None:
    for words in (["check"], ["query", "select * from readings", "--csv"], ["--help"]):
        with subprocess.Popen(
            [ENVOL, *words], cwd=ran[0].root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as started:
            assert started.stdout is not None and started.stderr is not None
            started.stdout.close()
            assert started.stderr.read() == ""
        assert started.returncode == 141
