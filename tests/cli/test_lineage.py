"""`envol lineage` on a real project."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from cli.machines import Project, Said

from envol.serving import Prediction, PredictionLog

ID = "0190a3c2-0000-7000-8000-000000000001"


def test_a_window_as_a_tree(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    said = project.envol("lineage", "risk_outcomes", "--window", "2024-01-08")
    assert said.code == 0, said.err
    digest = project.envol("models", "risk", "2", "--json").json["digest"]
    for part in (
        "risk_outcomes 2024-01-08 (table)",
        "risk_predictions 2024-01-08 (predictions)",
        "risk version 2, champion (model)",
        f"package {digest}",
        "readings 2024-01-07..2024-01-08 (source, window and 1d before)",
        "features 2024-01-03..2024-01-07 (table, up to the cutoff)",
        "5 windows, 200 rows, snapshots",
        "predicted 40 rows",
    ):
        assert part in said.out
    assert "its windows" in project.envol("lineage", "risk", "--all").out
    shallow = project.envol("lineage", "risk_outcomes", "--depth", "1").out
    assert "--depth for more" in shallow and "readings" not in shallow


def test_a_narrow_screen_breaks_lines_and_loses_nothing(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    said = project.envol("lineage", "risk_predictions", "--depth", "1", COLUMNS="60")
    assert said.code == 0 and max(map(len, said.out.splitlines())) <= 60
    digest = project.envol("models", "risk", "2", "--json").json["digest"]
    assert digest in "".join(line.strip("│├─└ ") for line in said.out.splitlines())


def test_a_row_and_its_model(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    words = ("lineage", "risk_predictions", "--window", "2024-01-08", "--key", "key=2024-01-08-3")
    said = project.envol(*words, "--depth", "0")
    assert said.code == 0, said.err
    heat = project.envol("query", "select heat from readings where key = '2024-01-08-3'", "--json").json[0]
    assert said.out.count(f"heat={heat['heat']:.6g}") == 2, "once as a feature, once as it came"
    assert "risk version 2, champion (model)" in said.out and "as of snapshot" in said.out
    told = project.envol(*words, "--json").json
    assert told["rows"][0]["key"] == "2024-01-08-3" and told["inputs"][0]["table"] == "features"
    assert told["models"][0]["inputs"][0]["windows"] == 5


def test_an_answer_of_the_service(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    log = PredictionLog.in_store(project.root / ".envol")
    at = int(datetime(2024, 1, 9, 12, tzinfo=UTC).timestamp() * 1_000_000)
    log.append([Prediction(ID, at, "risk", 1, '{"heat": 0.5}', '{"prediction": false}')]).result()
    log.close()
    said = project.envol("lineage", "--prediction", ID)
    assert said.code == 0, said.err
    assert "answered 2024-01-09 13:00" in said.out and "input: heat=0.5" in said.out
    assert "risk version 1" in said.out and "faults 2024-01-01..2024-01-04" in said.out
    told = project.envol("lineage", "--prediction", ID, "--json", "--depth", "0").json
    assert told["output"] == {"prediction": False} and told["model"]["inputs"] == []
    unknown = project.envol("lineage", "--prediction", "nobody")
    assert unknown.code == 2 and "no prediction 'nobody'" in unknown.err


def test_events_on_stdout_and_a_server_that_is_not_there(ran: tuple[Project, Said]) -> None:
    project, _ = ran
    said = project.envol("lineage", "features", "--openlineage")
    events = [json.loads(line) for line in said.out.splitlines()]
    assert [(one["job"]["name"], one["eventType"]) for one in events[-2:]] == [
        ("features", "START"),
        ("features", "COMPLETE"),
    ]
    assert len(events) == 6 and {one["job"]["namespace"] for one in events} == {"machines"}
    sent = project.envol("lineage", "readings", "--send", "http://127.0.0.1:1")
    assert sent.code == 1 and "cannot be sent to http://127.0.0.1:1" in sent.err


def test_what_is_asked_wrongly(ran: tuple[Project, Said], project: Project) -> None:
    whole, _ = ran
    for words, part in (
        ((), "name a table, or give --prediction ID"),
        (("features", "--prediction", ID), "name a table, or give --prediction ID"),
        (("features", "--key", "heat"), "'heat' names no value"),
        (("features", "--key", "key=1", "--openlineage"), "not of rows"),
        (("features", "--window", "2030-01-01"), "choose one from 2024-01-01 to 2024-01-08"),
        (("features", "--window", "soon"), "'soon' is not a date"),
        (("featrues",), "did you mean 'features'?"),
    ):
        said = whole.envol("lineage", *words)
        assert said.code == 2 and part in said.err, words
    fresh = project.envol("lineage", "readings")
    assert fresh.code == 2 and "no tables yet" in fresh.err and not (project.root / ".envol").exists()
