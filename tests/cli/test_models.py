"""`envol models`, `promote`, `rollback`, `query`, `compact`, `serve`."""

from __future__ import annotations

import csv
import io
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from cli.machines import ENVOL, Project, Said


def test_versions_and_one_in_full(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    listed = project.envol("models")
    assert re.search(r"risk +1 +2024-01-05 +roc_auc 1 +0.5", listed.out)
    full = project.envol("models", "risk", "champion")
    assert full.code == 0, full.err
    for part in (
        "risk version 2, champion",
        "trained on 2024-01-04..2024-01-07",
        "brier",
        "heat ",
        "snapshot",
    ):
        assert part in full.out
    told = project.envol("models", "risk", "2", "--json").json
    assert told["version"] == 2 and len(told["digest"]) == 64
    assert [fold["rows"] for fold in told["backtest"]["folds"]] == [40]
    assert told["signature"][0]["name"] == "heat"
    card = project.envol("models", "risk", "1", "--card")
    assert card.out.startswith("# risk")
    assert project.envol("models", "--json").json[0]["lineage"]["features"]["rows"] == 160


def test_promote_and_roll_back_on_record(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    words = ("promote", "risk", "1", "--alias", "challenger", "--reason", "to compare", "--by", "ada")
    assert project.envol(*words).out == "risk challenger: version 1 (by ada: to compare)\n"
    back = project.envol("rollback", "risk", "--reason", "alerts doubled", "--json").json
    assert (back["version"], back["previous"], back["alias"]) == (1, 2, "champion") and back["by"]
    assert project.envol("promote", "risk", "2", "--reason", "good again").code == 0
    shown = project.envol("models", "risk").out
    assert "alerts doubled" in shown and "good again" in shown and "ada" in shown
    history = project.envol("models", "risk", "--json").json["history"]
    assert [change["version"] for change in history] == [1, 2, 1, 1, 2]


def test_query_in_three_formats(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    sql = (
        "select key, heat, [1, 2] as pair, null as gone, repeat('x', 200) as long from readings order by key"
    )
    shown = project.envol("query", sql).out
    header = shown.splitlines()
    assert "key" in header[0] and "float64" in header[1] and "list(int32)" in header[1]
    assert "320 rows, 50 shown: --limit 320 shows all" in shown
    assert "x" * 57 + "..." in shown and "x" * 61 not in shown
    table = list(csv.DictReader(io.StringIO(project.envol("query", sql, "--csv").out)))
    assert len(table) == 320 and table[0]["pair"] == "[1, 2]" and table[0]["gone"] == ""
    rows = project.envol("query", sql, "--json", "--limit", "2").json
    assert len(rows) == 2 and rows[0]["pair"] == [1, 2] and rows[0]["gone"] is None
    assert project.envol("query", "select 'nan'::double as x", "--json").json == [{"x": None}]
    none = project.envol("query", "select * from readings where heat > 9")
    assert none.code == 0 and "0 rows" in none.out


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_screen_leaves_columns_out_rather_than_squeezing_them(
    ran: tuple[Project, Said], width: int
) -> None:
    project, _ = ran
    for words in (["models"], ["models", "risk"], ["models", "risk", "2"], ["status"], ["plan"]):
        said = project.envol(*words, COLUMNS=str(width))
        assert said.code == 0
        for line in said.out.splitlines():
            assert len(line) <= width or line.startswith("digest")
    listed = project.envol("models", COLUMNS=str(width)).out
    assert "risk " in listed and "version" in listed
    assert "baseline" not in project.envol("models", COLUMNS="50").out


def test_a_query_on_a_narrow_screen_names_the_columns_it_has_no_room_for(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    sql = "select 1 as aa, repeat('x', 99) as bb, 3 as cc, 4 as dd, 5 as ee from readings limit 1"
    narrow = project.envol("query", sql, COLUMNS="30").out
    assert max(map(len, narrow.splitlines())) <= 40 and "xxx…" in narrow
    assert "no room for dd, ee: --csv shows all" in narrow
    assert "no room" not in project.envol("query", sql, COLUMNS="100").out


def test_compact_keeps_every_row(project: Project) -> None:
    project.envol("run")
    before = project.envol("query", "select * from readings order by key", "--csv").out
    assert before.count("\n") == 321
    said = project.envol("compact", "--expire", "0h")
    assert said.code == 0, said.err
    assert "files: " in said.out and "snapshots forgotten: " in said.out
    assert project.envol("query", "select * from readings order by key", "--csv").out == before
    told = project.envol("compact", "--json").json
    assert told["compaction"]["files_after"] <= told["compaction"]["files_before"]
    wrong = project.envol("compact", "--expire", "soon")
    assert wrong.code == 2 and "'soon' is not a span" in wrong.err


def test_serve_says_where_and_ends_cleanly(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    server = subprocess.Popen(
        [ENVOL, "serve", "--port", "0", "-p", str(project.root)],
        cwd=Path.home(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    told = "".join(_until(server.stdout, "Ctrl-C"))
    url = re.search(r"http://\S+", told)
    assert url is not None and "risk version " in told
    with urllib.request.urlopen(f"{url[0]}/ready") as answer:
        assert answer.status == 200
    server.send_signal(signal.SIGINT)
    out, err = server.communicate(timeout=60)
    assert server.returncode == 0, err
    assert "Traceback" not in out + err


def _until(stream: Iterable[str], end: str) -> Iterator[str]:
    for line in stream:
        yield line
        if end in line:
            return
