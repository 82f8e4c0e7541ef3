"""Promotions reach a running service; packages that do not load leave the old champion serving."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from envol.project import load_project
from envol.project.clock import SystemClock
from envol.registry import Registry
from envol.serving import ServerProcess
from envol.storage import Store

from .conftest import GOOD

PATIENCE = 60
PREDICT = "/models/delay_risk/predict"


@contextmanager
def registry_of(root: Path) -> Iterator[Registry]:
    with Store(load_project(root).store_path) as store:
        yield Registry(store, SystemClock())


def until(true: Callable[[], Any]) -> None:
    """Wait until it is true; fails when that takes a minute."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.05)


def test_a_promotion_under_load_fails_no_request(root: Path) -> None:
    stop = threading.Event()
    seen: list[set[int]] = [set() for _ in range(8)]

    def load(thread: int, url: str) -> int:
        count = 0
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            while not stop.is_set():
                answer = client.post(PREDICT, json=[GOOD])
                assert answer.status_code == 200, answer.text
                seen[thread].add(answer.json()["version"])
                count += 1
        return count

    with ServerProcess(root) as server, registry_of(root) as registry, ThreadPoolExecutor(8) as pool:
        running = [pool.submit(load, thread, server.url) for thread in range(8)]
        try:
            until(lambda: all(1 in versions for versions in seen) or any(one.done() for one in running))
            registry.promote("delay_risk", 2, by="test", reason="better")
            until(lambda: all(2 in versions for versions in seen) or any(one.done() for one in running))
            for versions in seen:
                versions.clear()
            registry.rollback("delay_risk", by="test", reason="worse")
            until(lambda: all(1 in versions for versions in seen) or any(one.done() for one in running))
        finally:
            stop.set()
        assert all(future.result(PATIENCE) > 0 for future in running)


def test_a_first_champion_is_taken_up_and_described(root: Path) -> None:
    with ServerProcess(root) as server, registry_of(root) as registry:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            assert client.post("/models/idle/predict", json=[GOOD]).status_code == 503
            registry.promote("idle", 1, by="test", reason="first")
            until(lambda: client.post("/models/idle/predict", json=[GOOD]).status_code == 200)
            assert client.get("/models/idle").json()["aliases"] == {"champion": 1}
            assert client.get("/ready").json()["models"]["idle"] == 1
            assert "/models/idle/predict" in client.get("/openapi.json").json()["paths"]


def test_a_corrupt_package_leaves_the_old_champion_serving(root: Path) -> None:
    with ServerProcess(root) as server, registry_of(root) as registry:
        spoil(root, registry.get("delay_risk", 2).digest)
        registry.promote("delay_risk", 2, by="test", reason="better")
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            until(lambda: client.get("/models/delay_risk").json()["warning"])
            model = client.get("/models/delay_risk").json()
            assert "version 2 is the champion, but does not load" in model["warning"]
            assert (model["version"], model["aliases"]) == (1, {"champion": 2})
            ready = client.get("/ready")
            assert ready.status_code == 200
            assert "delay_risk: version 2" in ready.json()["warnings"][0]
            assert client.post(PREDICT, json=[GOOD]).json()["version"] == 1
            assert 'class="warning"' in client.get("/").text
            registry.rollback("delay_risk", by="test", reason="it does not load")
            until(lambda: client.get("/models/delay_risk").json()["warning"] is None)


def test_a_service_whose_only_champion_is_corrupt_is_not_ready(root: Path) -> None:
    with registry_of(root) as registry:
        spoil(root, registry.get("delay_risk", 1).digest)
    with ServerProcess(root) as server, httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        ready = client.get("/ready")
        assert ready.status_code == 503
        assert "delay_risk: version 1 is the champion, but does not load" in ready.json()["reasons"][0]
        answer = client.post(PREDICT, json=[GOOD])
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_champion")
        assert client.post("/models/delay/predict", json=[GOOD]).status_code == 200


def spoil(root: Path, digest: str) -> None:
    """Change a byte of a package's largest file, wherever the artifacts keep it."""
    (folder,) = (path for path in root.rglob(f"*{digest}*") if path.is_dir())
    largest = max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    os.chmod(largest, 0o644)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
