"""`envol quarantine` and `envol contract`: from a broken row back into its table, on the command line."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import polars as pl
import pytest
from cli.machines import ENVOL, READINGS, Project

COLD = READINGS.replace(
    '"heat": heat})',
    """"heat": heat}).with_columns(
        heat=pl.when(pl.col("key").str.ends_with("-7")).then(-1.0).otherwise("heat")
    )""",
)
TOTAL = """
@table()
def total(readings: pl.DataFrame) -> pl.DataFrame:
    return readings.select(pl.col("heat").sum(), rows=pl.len())
"""
WHY = ("--reason", "looked at")


@pytest.fixture
def cold(tmp_path: Path) -> Project:
    """A project of eight windows with one row each in quarantine."""
    project = Project(tmp_path / "project").write(COLD + TOTAL)
    assert project.envol("run").code == 0
    return project


def test_the_overview_counts_by_table_and_window(cold: Project) -> None:
    said = cold.envol("quarantine", "list")
    assert said.code == 0
    assert said.out.count("1 x heat: min") == 8
    assert "8 rows in 8 windows, the oldest readings 2024-01-01" in said.out
    shorter = cold.envol("quarantine", "list", "--limit", "2").out
    assert "2 shown: --limit 8 shows all" in shorter
    told = cold.envol("quarantine", "list", "--json").json
    assert told[0] == {
        "table": "readings",
        "window": "2024-01-01",
        "window_start": 1704063600,
        "rows": 1,
        "rules": {"heat: min": 1},
    }


def test_the_rows_of_a_table(cold: Project) -> None:
    said = cold.envol("quarantine", "list", "readings", "--window", "2024-01-02")
    assert "heat: min" in said.out and "2024-01-02-7" in said.out and "\n1 row\n" in said.out
    [row] = cold.envol("quarantine", "list", "readings", "--window", "2024-01-02", "--json").json
    assert row["quarantine_id"].startswith("2024-01-02/")
    assert (row["key"], row["heat"], row["broken_rule"]) == ("2024-01-02-7", -1.0, "heat: min")
    assert "3 shown: --limit 8" in cold.envol("quarantine", "list", "readings", "--limit", "3").out


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_export_edit_replay(cold: Project, kind: str) -> None:
    path = cold.root / f"rows.{kind}"
    said = cold.envol("quarantine", "export", "readings", "-o", path.name)
    assert said.out == f"8 rows written to {path.name}\n"
    if kind == "csv":
        text = path.read_text()
        assert text.splitlines()[0] == "quarantine_id,broken_rule,key,heat"
        assert cold.envol("quarantine", "export", "readings").out == text
        path.write_text(text.replace("-1.0", "21.5", 7))
    elif kind == "jsonl":
        path.write_text(path.read_text().replace('"heat": -1.0', '"heat": 21.5', 7))
    else:
        heats = [21.5] * 7 + [-1.0]
        pl.read_parquet(path).with_columns(heat=pl.Series(heats)).write_parquet(path)
    said = cold.envol("quarantine", "replay", "readings", path.name, *WHY)
    assert said.code == 1
    assert (
        "readings: 7 rows replaced in 7 windows\nto be made again from them: total: envol run\n" in said.out
    )
    assert "readings: 1 row stays in quarantine" in said.out
    assert "  heat: min\n" in said.out
    assert cold.envol("plan", "--json").json["tasks"] == 7
    assert cold.envol("run").code == 0
    [sums] = cold.envol("query", "select sum(rows) as n from total", "--json").json
    assert sums["n"] == 8 * 39 + 7
    again = cold.envol("quarantine", "replay", "readings", path.name, *WHY, "--json")
    assert (again.code, again.json["before"], again.json["rows"]) == (1, 7, 0)


def test_release_and_drop_are_on_record(cold: Project) -> None:
    said = cold.envol("quarantine", "release", "readings", "--window", "2024-01-03", *WHY, "--by", "ada")
    assert said.out == (
        "readings: 1 row released in 1 window\nto be made again from them: total: envol run\n"
    )
    dropped = cold.envol("quarantine", "drop", "readings", "--rule", "heat: min", *WHY, "--json").json
    assert (dropped["rows"], dropped["windows"], dropped["readers"]) == (7, 7, [])
    assert cold.envol("quarantine", "list").out == "nothing is in quarantine\n"
    history = cold.envol("quarantine", "history", "--json").json
    assert [one["action"] for one in history] == ["drop"] * 7 + ["release"]
    assert (history[-1]["by"], history[-1]["reason"]) == ("ada", "looked at")
    assert "looked at" in cold.envol("quarantine", "history", "readings", "--limit", "1").out
    identity = history[-1]["quarantine_id"]
    undone = cold.envol("quarantine", "undo", "readings", "--id", identity, *WHY)
    assert "envol run --node readings --rerun" in undone.out
    cold.envol("run", "--node", "readings", "--rerun")
    [row] = cold.envol("quarantine", "list", "readings", "--json").json
    assert row["quarantine_id"] == identity


def test_what_is_decided_before_a_window_is_made_counts_then(tmp_path: Path) -> None:
    project = Project(tmp_path / "project").write(
        COLD.replace("contract=Reading", "contract=Reading, on_broken='fail'")
    )
    assert project.envol("run").code == 1
    said = project.envol("quarantine", "drop", "readings", *WHY)
    assert said.out == "readings: 8 rows dropped once their windows are made again: envol run\n"
    assert "drop" in project.envol("quarantine", "list", "readings").out
    assert "drop (at the next run)" in project.envol("quarantine", "history").out
    assert project.envol("run").code == 0
    assert project.envol("quarantine", "list").out == "nothing is in quarantine\n"


@pytest.mark.parametrize(
    ("words", "told", "remedy"),
    [
        (("list", "reading"), "declares no table 'reading'", "did you mean 'readings'?"),
        (("list", "--window", "2024-01-01"), "choose rows of a table", "name the table as well"),
        (("drop", "readings", "--reason", " "), "the reason is empty", "--reason"),
        (("replay", "readings", "gone.csv", *WHY), "there is no file gone.csv", "edited rows are"),
        (("replay", "readings", "envol.toml", *WHY), "is no kind of file", ".csv, .jsonl or .parquet"),
        (("replay", "readings", "bad.jsonl", *WHY), "bad.jsonl cannot be read", "export the rows again"),
        (("export", "readings", "-o", "rows.xlsx"), "is no kind of file", ".csv, .jsonl or .parquet"),
        (
            ("release", "readings", "--id", "x", *WHY),
            "is no id of a quarantined row",
            "envol quarantine list",
        ),
        (("frobnicate",), "No such command 'frobnicate'", "envol quarantine --help"),
    ],
)
def test_errors_tell_what_to_do(cold: Project, words: tuple[str, ...], told: str, remedy: str) -> None:
    (cold.root / "bad.jsonl").write_text("[1]\n")
    said = cold.envol("quarantine", *words)
    assert said.code == 2
    assert told in said.err
    assert remedy in said.err


@pytest.mark.parametrize(("answer", "left"), [("n", 24), ("y", 0)])
def test_many_rows_are_asked_about_on_a_terminal(tmp_path: Path, answer: str, left: int) -> None:
    project = Project(tmp_path / "project").write(COLD.replace('ends_with("-7")', 'contains("-[789]$")'))
    project.envol("run")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [ENVOL, "quarantine", "drop", "readings", *WHY],
        cwd=project.root,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TERM": "dumb"},
    )
    os.close(theirs)
    said = b""
    while b"? [y/N]" not in said:
        said += os.read(ours, 1000)
    assert b"drop 24 rows of readings" in said
    os.write(ours, f"{answer}\n".encode())
    assert process.wait(60) == (0 if answer == "y" else 1)
    os.close(ours)
    assert sum(one["rows"] for one in project.envol("quarantine", "list", "--json").json) == left


def test_without_a_verb_both_tell_their_verbs(cold: Project) -> None:
    for group, verb in [("quarantine", "release"), ("contract", "suggest")]:
        said = cold.envol(group)
        assert said.code == 0
        assert verb in said.out


def test_a_contract_is_suggested_and_checked(cold: Project) -> None:
    said = cold.envol("contract", "suggest", "readings")
    assert said.out.startswith("import dataframely as dy\n\n\nclass Readings(dy.Schema):\n")
    assert "key = dy.String(primary_key=True" in said.out
    assert cold.envol("contract", "suggest", "readings", "--json").json["code"] == said.out
    part = cold.envol("contract", "suggest", "readings", "--from", "2024-01-02", "--to", "2024-01-04").out
    assert "78 rows in 2 windows" in part
    assert cold.envol("contract", "check", "readings").out == (
        "readings: all of 312 rows in 8 windows meet the contract\n"
    )
    path = cold.root / "pipeline.py"
    path.write_text(path.read_text().replace("dy.Float64(min=0)", "dy.Float64(min=0.5)"))
    checked = cold.envol("contract", "check", "readings", "--json").json
    [below] = cold.envol("query", "select count(*) as n from readings where heat < 0.5", "--json").json
    assert sum(one["rows"] for one in checked["broken"]) == below["n"] > 0
    said = cold.envol("contract", "check", "readings", "--limit", "1")
    assert f"{below['n']} of 312 rows break the contract" in said.out.replace(",", "")
    assert f"{below['n']} x heat: min" in said.out
    assert cold.envol("contract", "check", "total").code == 2
    assert cold.envol("contract", "suggest", "totl").code == 2


def test_looking_at_a_project_that_was_not_run_makes_nothing(project: Project) -> None:
    for words in (["quarantine", "list"], ["quarantine", "history"], ["contract", "changes"]):
        assert project.envol(*words).code == 0
    for words in (["quarantine", "list", "readings"], ["contract", "suggest", "readings"]):
        assert project.envol(*words).code == 2
    said = project.envol("contract", "check", "readings")
    assert (said.code, "has no tables yet" in said.err) == (2, True)
    assert not (project.root / ".envol").exists()


def test_changes_of_columns_are_told_by_run_status_and_contract(cold: Project) -> None:
    assert cold.envol("contract", "changes").out == "no change of columns was seen\n"
    assert cold.envol("status", "--json").json["schema_changes"] == []
    path = cold.root / "pipeline.py"
    path.write_text(path.read_text().replace('otherwise("heat")', 'otherwise("heat"), site=pl.lit("north")'))
    said = cold.envol("run")
    assert said.code == 0
    assert "the schema has changed: + site String" in said.out
    [change] = cold.envol("contract", "changes", "readings", "--json").json
    assert change["diff"] == ["+ site String"]
    assert change["columns"] == {"site": [None, "String"]}
    assert (change["window"], change["refused"]) == ("2024-01-01", False)
    assert "+ site String" in cold.envol("contract", "changes").out
    assert "readings has other columns since 2024-01-01: + site String: envol contract changes readings" in (
        cold.envol("status").out
    )
    assert cold.envol("contract", "changes", "redings").code == 2
