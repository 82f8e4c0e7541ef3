"""`envol new`, `check` and `plan`; help and version."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.machines import CONFIG, LONE, WHOLE, Project, Said, command, envol

VERBS = (
    "new",
    "check",
    "plan",
    "run",
    "status",
    "runs",
    "models",
    "promote",
    "rollback",
    "serve",
    "query",
    "compact",
)


def test_a_new_project_is_checked_and_runs(tmp_path: Path) -> None:
    made = command("new", "my-pumps", folder=tmp_path)
    assert made.code == 0
    assert "cd my-pumps\n" in made.out and "envol run" in made.out
    project = Project(tmp_path / "my-pumps")
    assert 'name = "my-pumps"' in (project.root / "envol.toml").read_text()
    assert not list(project.root.rglob("__pycache__"))
    checked = project.envol("check")
    assert checked.code == 0, checked.err
    ran = project.command("run", ENVOL_PROJECT_END="2025-01-03")
    assert ran.code == 0, ran.err
    assert "done: " in ran.out


def test_new_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "pumps").mkdir()
    (tmp_path / "pumps" / "mine.txt").write_text("mine")
    said = envol("new", "pumps", "--path", str(tmp_path), folder=Path.home())
    assert said.code == 2
    assert "exists already" in said.err
    assert [path.name for path in (tmp_path / "pumps").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", ["", "../up", "a b", "1st", "json", "x" * 65, "-"])
def test_new_refuses_what_is_no_name(tmp_path: Path, name: str) -> None:
    said = envol("new", "--", name, folder=tmp_path)
    assert said.code == 2
    assert said.err.startswith("error: ") and "Traceback" not in said.err
    assert not list(tmp_path.iterdir())


def test_help_of_every_verb_has_an_example() -> None:
    overall = command("--help", folder=Path.home())
    assert all(f"\n  {verb} " in overall.out for verb in VERBS)
    for verb in VERBS:
        said = envol(verb, "--help", folder=Path.home())
        assert said.code == 0
        assert f"Examples:\n    envol {verb}" in said.out
        assert max(map(len, said.out.splitlines())) <= 100


def test_version_and_misspelt_words(tmp_path: Path) -> None:
    assert envol("--version", folder=tmp_path).out.startswith("envol 0.")
    assert envol(folder=tmp_path).out.startswith("Usage: envol")
    for words in (["rnu"], ["run", "--nodes", "x"], ["run", "--workers", "0"], ["query"]):
        said = envol(*words, folder=tmp_path)
        assert said.code == 2
        assert said.err.startswith("error: ") and "--help" in said.err
        assert said.out == ""


def test_check_shows_the_graph_and_stores_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path / "whole").write(WHOLE)
    said = project.envol("check")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == "machines  from 2024-01-01 to 2024-01-09, Europe/Paris"
    assert "readings  source, 1d, contract Reading" in said.out
    assert "What was measured." in said.out and "More about it" not in said.out
    assert "risk  model, train 4d, every 3d, target failed  with faults" in said.out
    depth = [
        line.index(f"── {name}")
        for name in ("readings ", "features ", "risk ", "worth ")
        for line in lines
        if f"── {name}" in line
    ]
    assert len(depth) == 4 and depth == sorted(depth)
    assert not (project.root / ".envol").exists()
    told = {node["node"]: node for node in project.envol("check", "--json").json["nodes"]}
    assert told["features"]["settings"] == {"lookback": "readings 1d"}
    assert told["worth"]["parameters"] == {"saving": 2.0}
    assert told["risk"]["inputs"] == ["features", "faults"] and told["risk"]["period"] is None


def test_plan_says_what_and_why(ran: tuple[Project, Said], project: Project) -> None:
    before = project.envol("plan", "--windows")
    assert before.code == 0
    assert "8 missing" in before.out and "2024-01-05" in before.out
    assert "A run would make 8 windows." in before.out
    after = ran[0].envol("plan")
    assert "A run would do nothing" in after.out and "data end" in after.out
    told = ran[0].envol("plan", "--json", "--node", "features").json
    assert [node["node"] for node in told["nodes"]] == ["readings", "features"]
    assert told["nodes"][1] | {"rows": 0} == {
        "node": "features",
        "kind": "table",
        "due": 8,
        "up_to_date": 8,
        "to_do": {},
        "blocked": {},
        "rows": 0,
        "quarantined_rows": 0,
        "quarantined_windows": 0,
        "next": None,
    }


def test_plan_tells_what_is_due_next(tmp_path: Path) -> None:
    project = Project(tmp_path / "endless").write(WHOLE, CONFIG.replace('end = "2024-01-09"', ""))
    told = {node["node"]: node["next"] for node in project.envol("plan", "--json").json["nodes"]}
    assert told["readings"]["window"] == told["features"]["window"] > told["faults"]["window"]
    assert told["readings"]["due_at"] < told["features"]["due_at"] or told["readings"] == told["features"]
    assert told["faults"]["window"] == told["risk_outcomes"]["window"]


def test_another_folder_is_named_by_an_option_or_found_above(project: Project, tmp_path: Path) -> None:
    inner = project.root / "notebooks"
    inner.mkdir()
    assert envol("check", folder=inner).code == 0
    assert envol("check", "-p", str(project.root), folder=tmp_path).code == 0
    said = envol("check", folder=tmp_path)
    assert said.code == 2
    assert f"no envol.toml in {tmp_path}" in said.err and "-> " in said.err


def test_output_is_plain_in_a_pipe(project: Project) -> None:
    project.write(LONE)
    for words in (["check"], ["plan"], ["status"], ["run"]):
        said = project.envol(*words)
        assert "\x1b" not in said.out + said.err and "\r" not in said.out + said.err
