"""What the service keeps when it is killed, when its disk is full, when it is overloaded or stopped."""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from envol.errors import Failure, UserError
from envol.project import load_project
from envol.serving import PredictionLog, ServerProcess, serve
from envol.storage import Store

from .conftest import GOOD, PATIENCE, until

PREDICT = "/models/delay_risk/predict"
SLOW = GOOD | {"distance": 1000}
WAITING = "waiting at the gate"


def test_every_acknowledged_prediction_outlives_a_kill(root: Path) -> None:
    acknowledged: list[str] = []
    enough = threading.Event()

    def load(url: str) -> None:
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            while True:
                try:
                    answer = client.post(PREDICT, json=[GOOD, GOOD])
                except httpx.TransportError:
                    return  # killed
                acknowledged.extend(one["id"] for one in answer.json()["predictions"])
                if len(acknowledged) > 600:
                    enough.set()

    with ServerProcess(root) as server:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(8):
                pool.submit(load, server.url)
            assert enough.wait(PATIENCE)
            os.kill(server.pid, signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
    logged = PredictionLog.in_store(root / ".envol").read()
    assert set(acknowledged) <= set(logged["id"].to_list())


def test_a_log_that_cannot_grow_answers_503_and_recovers(shared: ServerProcess, client: httpx.Client) -> None:
    """The kernel refuses the service's writes beyond a size, as it does on a full disk."""
    log = PredictionLog.in_store(shared.root / ".envol")
    assert client.post(PREDICT, json=[GOOD]).status_code == 200
    before = log.read().height
    limits = resource.prlimit(shared.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(shared.pid, resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        answer = client.post(PREDICT, json=[GOOD])
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "log_not_writable")
        assert "retry-after" in answer.headers
        ready = client.get("/ready")
        assert ready.status_code == 503
        assert "prediction log" in ready.json()["reasons"][0]
        assert client.get("/health").status_code == 200
    finally:
        resource.prlimit(shared.pid, resource.RLIMIT_FSIZE, limits)
    assert client.post(PREDICT, json=[GOOD]).status_code == 200
    assert client.get("/ready").status_code == 200
    assert log.read().height == before + 1


def test_more_requests_than_may_wait_are_told_to_come_again(
    shared: ServerProcess, client: httpx.Client
) -> None:
    gate = shared.root / "gate"
    gate.unlink(missing_ok=True)

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{shared.url}/models/moody/predict", json=[SLOW], timeout=PATIENCE)

    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(ask, number) for number in range(5)]
        try:
            until(lambda: sum(future.done() for future in waiting) == 3)  # one computed, one in the queue
            assert client.get("/health").status_code == 200
        finally:
            gate.touch()
        answers = [future.result(PATIENCE) for future in waiting]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
    assert {answer.json()["error"]["code"] for answer in refused} == {"overloaded"}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_the_requests_under_way(root: Path, number: signal.Signals) -> None:
    gate = root / "gate"
    with (
        ServerProcess(root, environment={"GATE": str(gate)}, log=root / "serve.log") as server,
        ThreadPoolExecutor(1) as pool,
        httpx.Client(base_url=server.url, timeout=PATIENCE) as client,
    ):
        assert client.get("/health").status_code == 200  # its connection is idle from now on
        url = f"{server.url}/models/moody/predict"
        slow = pool.submit(httpx.post, url, json=[SLOW], timeout=PATIENCE)
        try:
            until(lambda: WAITING in server.output)
            os.kill(server.pid, number)
            until(lambda: refuses(server.url))
            assert not slow.done()
        finally:
            gate.touch()
        answer = slow.result(PATIENCE)
        assert answer.status_code == 200
        assert server.wait() == 0
    (made,) = answer.json()["predictions"]
    assert PredictionLog.in_store(root / ".envol").read("moody")["id"].to_list() == [made["id"]]


def refuses(url: str) -> bool:
    """Whether no connection is accepted any more."""
    try:
        httpx.get(f"{url}/health", timeout=PATIENCE)
    except httpx.TransportError:
        return True
    return False


def test_a_taken_port_is_told_with_the_way_out(template: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Failure, match="exit code 2") as caught:
            ServerProcess(template, port=port).start()
    told = str(caught.value)
    assert f"127.0.0.1:{port}" in told and "--port" in told and "ENVOL_SERVE_PORT" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("host", "port"), [("192.0.2.1", 0), ("no.such.host.invalid", 0), ("127.0.0.1", 99999)]
)
def test_an_address_that_is_not_this_machines_is_told(template: Path, host: str, port: int) -> None:
    project = load_project(template)
    with (
        Store(project.store_path) as store,
        pytest.raises(UserError, match=f"cannot listen at {host}:{port}"),
    ):
        serve(project, store, host, port)
