"""OpenLineage events, checked and sent by the client of OpenLineage itself."""

from __future__ import annotations

import inspect
import json
import logging
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import attr
import pytest
from openlineage.client import OpenLineageClient, facet_v2
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.generated.base import BaseFacet
from openlineage.client.transport.console import ConsoleConfig, ConsoleTransport
from openlineage.client.transport.file import FileConfig, FileTransport
from small_project import SmallProject

from envol.errors import Failure, UserError
from envol.pipeline.lineage import facets as own
from envol.pipeline.lineage import lineage, openlineage
from envol.project import load_project
from envol.storage import Store

REMOTE = "https://ada:secret@git.example.org/energy/pumps.git"
MODULE = """
    @source(every="1d")
    def readings(window: Window) -> pl.DataFrame:
        "What was measured."
        heat = [window.start.day * 10.0 + row for row in range(3)]
        return pl.DataFrame({"unit": [int(one) for one in heat], "heat": heat})

    @table(lookback={"readings": "1d"})
    def levels(readings: pl.DataFrame, window: Window) -> pl.DataFrame:
        return readings.filter(pl.col("window_start") == window.start)

    @source(every="1d")
    def faults(window: Window) -> pl.DataFrame:
        return readings(window).rename({"heat": "worth"})

    @model(features="levels", labels="faults", key="unit", target="worth", train="3d", every="9d", folds=1,
           test="1d", task="regression")
    def risk(X: pl.DataFrame, y: pl.Series):
        from sklearn.linear_model import LinearRegression

        return LinearRegression().fit(X, y)
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    """A project under Git, run once."""
    small = SmallProject(tmp_path_factory.mktemp("openlineage") / "project").write(MODULE)
    for words in (["init", "-q"], ["add", "pipeline.py"], ["remote", "add", "origin", REMOTE]):
        subprocess.run(["git", *words], cwd=small.root, check=True)
    subprocess.run(
        ["git", "-c", "user.name=ada", "-c", "user.email=a@b.org", "commit", "-q", "-m", "first"],
        cwd=small.root,
        check=True,
    )
    assert small.run("2024-01-06").state == "done"
    return small


@pytest.fixture(scope="module")
def events(small: SmallProject) -> list[RunEvent]:
    """All that led to the newest predictions."""
    return told(small)


def told(small: SmallProject) -> list[RunEvent]:
    project = load_project(small.root)
    with Store.of(project) as store:
        found = lineage(project, store, "risk_predictions", every_window=True)
        return list(openlineage.events(project, store, found))


def test_each_window_and_training_is_a_run_after_what_it_read(events: list[RunEvent]) -> None:
    runs = [(event.job.name, event.eventType, event.run.runId) for event in events]
    assert len(set(runs)) == len(runs) == 2 * len({run for *_, run in runs})
    ended: set[str] = set()
    for event in events:
        assert all(read.name in ended for read in event.inputs or [])
        ended.update(made.name for made in event.outputs or [] if event.eventType is RunState.COMPLETE)
    assert {name for name, *_ in runs} == {"readings", "levels", "faults", "risk", "risk_predictions"}
    assert [name for name, state, _ in runs if state is RunState.START].count("readings") == 5
    last = events[-1]
    assert (last.job.name, last.eventType) == ("risk_predictions", RunState.COMPLETE)
    assert {read.name for read in last.inputs or []} == {"levels", "risk"}


def test_the_facets_tell_window_snapshot_code_and_parent(events: list[RunEvent], small: SmallProject) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=small.root, check=True, capture_output=True, text=True
    ).stdout.strip()
    event = json.loads(openlineage.as_json(events[-1]))
    run, job = event["run"]["facets"], event["job"]["facets"]
    assert run["nominalTime"]["nominalStartTime"].startswith("2024-01-05T00:00:00")
    assert run["envol_definition"]["gitCommit"] == commit and run["envol_definition"]["fingerprint"]
    assert run["envol_definition"]["gitDirty"] is True  # .envol and envol.toml are not committed
    assert run["parent"]["job"] == {"namespace": "project", "name": "envol run", "facets": {}}
    assert job["sourceCodeLocation"]["url"] == "https://git.example.org/energy/pumps.git"
    assert job["sourceCodeLocation"]["version"] == commit and "secret" not in json.dumps(event)
    [output] = event["outputs"]
    assert (output["namespace"], output["name"]) == ("project", "risk_predictions")
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 3
    assert output["facets"]["envol_window"]["snapshot"] == int(output["facets"]["version"]["datasetVersion"])
    assert {"name": "model_version", "type": "Int64", "fields": []} in output["facets"]["schema"]["fields"]
    training = json.loads(openlineage.as_json(next(one for one in events if one.job.name == "risk")))
    assert len(training["run"]["facets"]["envol_package"]["digest"]) == 64
    assert training["outputs"][0]["facets"]["datasetType"]["datasetType"] == "MODEL"
    assert training["inputs"][0]["facets"]["envol_window"]["windows"] == 3
    levels = json.loads(openlineage.as_json(next(one for one in events if one.job.name == "readings")))
    assert levels["job"]["facets"]["documentation"]["description"] == "What was measured."


def test_events_are_the_same_each_time(events: list[RunEvent], small: SmallProject) -> None:
    assert [openlineage.as_json(event) for event in told(small)] == [*map(openlineage.as_json, events)]


def test_what_is_written_is_what_the_classes_of_the_specification_take(events: list[RunEvent]) -> None:
    """The client has a class for each facet of the specification; a field too much or too few is refused."""
    kinds = {kind._get_schema(): kind for kind in _facet_kinds()}
    seen = set()
    for event in (json.loads(openlineage.as_json(one)) for one in events):
        for part in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
            for group in ("facets", "inputFacets", "outputFacets"):
                for name, facet in part.get(group, {}).items():
                    kind = kinds[facet["_schemaURL"]]
                    part[group][name] = kind(**_given(facet))
                    seen.add(kind.__name__)
        again = RunEvent(
            eventTime=event["eventTime"],
            producer=event["producer"],
            eventType=RunState(event["eventType"]),
            run=Run(**event["run"]),
            job=Job(**event["job"]),
            inputs=[InputDataset(**one) for one in event["inputs"]],
            outputs=[OutputDataset(**one) for one in event["outputs"]],
        )
        assert again.schemaURL == event["schemaURL"] and again.producer.startswith("urn:envol:")
    assert {"ParentRunFacet", "SchemaDatasetFacet", "EnvolWindowDatasetFacet"} <= seen


def _facet_kinds() -> Iterator[Any]:
    for module in (own, *(one for _, one in inspect.getmembers(facet_v2, inspect.ismodule))):
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, BaseFacet) and attr.has(kind):
                yield kind


def _given(facet: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in facet.items() if name != "_schemaURL"}
    return {name.removeprefix("_"): value for name, value in fields.items()}


class Server:
    """An HTTP server that keeps what is posted to it, and answers as told."""

    def __init__(self) -> None:
        self.status = 201
        self.posted: list[tuple[str, str | None, dict[str, Any]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.posted.append((self.path, self.headers["Authorization"], json.loads(body)))
                self.send_response(server.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def test_a_server_gets_all_events_in_order(events: list[RunEvent], server: Server) -> None:
    openlineage.send(events, server.url, key="k")
    assert [event for *_, event in server.posted] == [json.loads(openlineage.as_json(one)) for one in events]
    assert {(path, key) for path, key, _ in server.posted} == {("/api/v1/lineage", "Bearer k")}


def test_a_server_that_refuses_or_is_not_there_is_told(events: list[RunEvent], server: Server) -> None:
    server.status = 403
    with pytest.raises(Failure, match="403"):
        openlineage.send(events, server.url)
    assert len(server.posted) == 1
    with pytest.raises(UserError, match="no address"):
        openlineage.send(events, "marquez")


def test_the_clients_own_transports_take_them(
    events: list[RunEvent], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "events.jsonl"
    for transport in (ConsoleTransport(ConsoleConfig()), FileTransport(FileConfig(str(file), append=True))):
        client = OpenLineageClient(transport=transport)
        with caplog.at_level(logging.INFO, "openlineage.client.transport.console"):
            for event in events:
                client.emit(event)
    written = [openlineage.as_json(one) for one in events]
    assert file.read_text().splitlines() == written
    assert [record.message for record in caplog.records if "transport.console" in record.name] == written
