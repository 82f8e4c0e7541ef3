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

from envol.errors import Failure
from envol.serving import PredictionLog, ServerProcess

from .conftest import GOOD

PATIENCE = 60
PREDICT = "/models/delay_risk/predict"
SLOW = GOOD | {"distance": 1000}


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
    with ServerProcess(root) as server:
        assert httpx.post(server.url + PREDICT, json=[GOOD], timeout=PATIENCE).status_code == 200


def test_a_log_that_cannot_grow_answers_503_and_recovers(root: Path) -> None:
    """The kernel refuses the service's writes beyond a size, as it does on a full disk."""
    with ServerProcess(root) as server, httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        assert client.post(PREDICT, json=[GOOD]).status_code == 200
        limits = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, limits[1]))
        answer = client.post(PREDICT, json=[GOOD])
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "log_not_writable")
        assert "retry-after" in answer.headers
        ready = client.get("/ready")
        assert ready.status_code == 503
        assert "prediction log" in ready.json()["reasons"][0]
        assert client.get("/health").status_code == 200
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, limits)
        answer = client.post(PREDICT, json=[GOOD])
        assert answer.status_code == 200
        assert client.get("/ready").status_code == 200
    assert PredictionLog.in_store(root / ".envol").read().height == 2


def test_more_requests_than_may_wait_are_told_to_come_again(root: Path) -> None:
    arguments = ["--threads", "1", "--queue", "2"]
    with ServerProcess(root, arguments=arguments) as server, ThreadPoolExecutor(6) as pool:

        def ask(_: int) -> httpx.Response:
            return httpx.post(f"{server.url}/models/moody/predict", json=[SLOW], timeout=PATIENCE)

        waiting = [pool.submit(ask, number) for number in range(6)]
        assert httpx.get(f"{server.url}/health", timeout=PATIENCE).status_code == 200
        answers = [future.result(PATIENCE) for future in waiting]
    assert {answer.status_code for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["error"]["code"] == "overloaded"
            assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_the_requests_under_way(root: Path, number: signal.Signals) -> None:
    with ServerProcess(root) as server, ThreadPoolExecutor(1) as pool:
        begun = threading.Event()

        def slow() -> httpx.Response:
            with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
                client.get("/health")
                begun.set()
                return client.post("/models/moody/predict", json=[SLOW])

        answer = pool.submit(slow)
        assert begun.wait(PATIENCE)
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as idle:
            # The slow request is under way once a request sent after it has been answered.
            for _ in range(5):
                assert idle.get("/ready").status_code == 200
            os.kill(server.pid, number)
            assert answer.result(PATIENCE).status_code == 200
            assert server.wait() == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/health", timeout=PATIENCE)
    (made,) = answer.result().json()["predictions"]
    assert PredictionLog.in_store(root / ".envol").read("moody")["id"].to_list() == [made["id"]]


def test_a_taken_port_is_told_with_the_way_out(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Failure, match="exit code 2") as caught:
            ServerProcess(root, port=port).start()
    told = str(caught.value)
    assert f"127.0.0.1:{port}" in told and "--port" in told and "ENVOL_SERVE_PORT" in told
    assert "Traceback" not in told


def test_a_host_that_is_not_this_machine_is_told(root: Path) -> None:
    with pytest.raises(Failure, match="exit code 2"):
        ServerProcess(root, host="192.0.2.1").start()
    with pytest.raises(Failure, match="exit code 2"):
        ServerProcess(root, host="no.such.host.invalid").start()


def test_a_damaged_log_is_told_by_ready(root: Path) -> None:
    (root / ".envol" / "predictions.sqlite").write_bytes(b"not a database at all" * 100)
    with ServerProcess(root) as server, httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        ready = client.get("/ready")
        assert ready.status_code == 503
        assert "it is damaged" in ready.json()["reasons"][0]
        assert client.post(PREDICT, json=[GOOD]).status_code == 503
