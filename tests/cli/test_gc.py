"""`envol gc`: what goes, what would go, and how large the store is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from cli.machines import Project, Said


@pytest.fixture
def whole(ran: tuple[Project, Said], tmp_path: Path) -> Project:
    """A copy of a project with a model that was run once."""
    shutil.copytree(ran[0].root, tmp_path / "whole")
    return Project(tmp_path / "whole")


def test_nothing_of_a_young_project_goes(whole: Project) -> None:
    said = whole.envol("gc")
    assert said.code == 0, said.err
    lines = [re.split(r" {2,}", line.strip()) for line in said.out.splitlines()]
    assert ["tasks", "90d", "0"] in lines and ["past states of the tables", "30d", "0"] in lines
    assert all(words[2] == "0" for words in lines if len(words) > 2 and words[1] in ("14d", "30d", "12mo"))
    for part in ("records", "packages", "catalog of the tables", "in all", "are free on its disk"):
        assert part in said.out


def test_what_would_go_goes(whole: Project) -> None:
    spans = {"ENVOL_RETENTION_LOGS": "0h", "ENVOL_RETENTION_SNAPSHOTS": "0h", "ENVOL_RETENTION_RUNS": "never"}
    told = whole.envol("gc", "--dry-run", "--json", **spans).json
    counts = {one["kind"]: one["count"] for one in told["collected"]}
    assert told["dry_run"] and counts["snapshots"] > 0 and counts["logs"] > 0 and "runs" not in counts
    assert {one["kind"]: one["kept_for"] for one in told["collected"]}["logs"] == "0h"
    assert {part["name"] for part in told["parts"]} >= {"records", "tables", "packages"}
    assert whole.envol("gc", "--dry-run", "--json", **spans).json["collected"] == told["collected"]
    gone = whole.envol("gc", "--json", **spans).json
    assert {one["kind"]: one["count"] for one in gone["collected"] if one["kind"] != "space"} == counts
    again = whole.envol("gc", "--json", **spans).json
    assert sum(one["count"] for one in again["collected"]) == 0
    traced = whole.envol("lineage", "risk_outcomes")
    assert traced.code == 0 and "(expired)" in traced.out
    assert whole.envol("models", "risk", "champion").code == 0


def test_what_is_said_wrongly(project: Project) -> None:
    assert project.envol("gc").code == 2 and not (project.root / ".envol").exists()
    wrong = project.envol("gc", ENVOL_RETENTION_RUNS="1y")
    assert wrong.code == 2 and 'text such as "30d", or "never"' in wrong.err
    (project.root / "envol.toml").write_text(
        (project.root / "envol.toml").read_text() + '[retention]\nlog = "3d"\n'
    )
    unknown = project.envol("gc")
    assert unknown.code == 2 and "did you mean 'logs'" in unknown.err
