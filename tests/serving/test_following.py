"""Promotions reach a running service; packages that do not load leave the old champion serving."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from envol.project import load_project
from envol.project.clock import SystemClock
from envol.registry import Registry
from envol.serving import ServerProcess
from envol.storage import Store, tables

from .conftest import GOOD, PATIENCE, until


@contextmanager
def registry_of(root: Path) -> Iterator[Registry]:
    with Store(load_project(root).store_path) as store:
        yield Registry(store, SystemClock())


@pytest.fixture(scope="module")
def followed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service whose registry changes; each test changes another model's champion."""
    copy = Path(shutil.copytree(template, tmp_path_factory.mktemp("followed") / "airport"))
    with ServerProcess(copy, log=copy / "serve.log") as server:
        yield server


@pytest.fixture
def asker(followed: ServerProcess) -> Iterator[httpx.Client]:
    """A client of that service."""
    with httpx.Client(base_url=followed.url, timeout=PATIENCE) as client:
        yield client


def test_a_promotion_under_load_fails_no_request(followed: ServerProcess) -> None:
    stop = threading.Event()
    seen: list[set[int]] = [set() for _ in range(8)]

    def load(thread: int) -> int:
        count = 0
        with httpx.Client(base_url=followed.url, timeout=PATIENCE) as client:
            while not stop.is_set():
                answer = client.post("/models/delay_risk/predict", json=[GOOD])
                assert answer.status_code == 200, answer.text
                seen[thread].add(answer.json()["version"])
                count += 1
        return count

    with registry_of(followed.root) as registry, ThreadPoolExecutor(8) as pool:
        running = [pool.submit(load, thread) for thread in range(8)]

        def everyone_sees(version: int) -> None:
            until(lambda: all(version in versions for versions in seen) or any(one.done() for one in running))

        try:
            everyone_sees(1)
            registry.promote("delay_risk", 2, by="test", reason="better")
            everyone_sees(2)
            for versions in seen:
                versions.clear()
            registry.rollback("delay_risk", by="test", reason="worse")
            everyone_sees(1)
        finally:
            stop.set()
        assert all(future.result(PATIENCE) > 0 for future in running)


def test_a_first_champion_is_taken_up_and_described(followed: ServerProcess, asker: httpx.Client) -> None:
    assert asker.post("/models/idle/predict", json=[GOOD]).status_code == 503
    with registry_of(followed.root) as registry:
        registry.promote("idle", 1, by="test", reason="first")
    until(lambda: asker.post("/models/idle/predict", json=[GOOD]).status_code == 200)
    assert asker.get("/models/idle").json()["aliases"] == {"champion": 1}
    assert asker.get("/ready").json()["models"]["idle"] == 1
    assert "/models/idle/predict" in asker.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(("name", "told"), [("delay", "digest"), ("moody", "another environment")])
def test_a_package_that_does_not_load_leaves_the_old_champion_serving(
    followed: ServerProcess, asker: httpx.Client, name: str, told: str
) -> None:
    with registry_of(followed.root) as registry:
        if name == "delay":
            spoil(followed.root, registry.get(name, 2).digest)
        else:
            relock(followed.root, name, 2)
        registry.promote(name, 2, by="test", reason="better")
        until(lambda: asker.get(f"/models/{name}").json()["warning"])
        model = asker.get(f"/models/{name}").json()
        assert "version 2 is the champion, but does not load" in model["warning"]
        assert told in model["warning"]
        assert (model["version"], model["aliases"]) == (1, {"champion": 2})
        ready = asker.get("/ready")
        assert ready.status_code == 200
        assert f"{name}: version 2" in ready.json()["warnings"][0]
        assert asker.post(f"/models/{name}/predict", json=[GOOD]).json()["version"] == 1
        assert 'class="warning"' in asker.get("/").text
        registry.rollback(name, by="test", reason="it does not load")
        until(lambda: asker.get(f"/models/{name}").json()["warning"] is None)


def test_a_service_says_all_that_it_is_not_ready_for(root: Path) -> None:
    with registry_of(root) as registry:
        spoil(root, registry.get("delay_risk", 1).digest)
    (root / ".envol" / "predictions.sqlite").write_bytes(b"not a database at all" * 100)
    with ServerProcess(root) as server, httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        ready = client.get("/ready")
        assert ready.status_code == 503
        package, log = ready.json()["reasons"]
        assert "delay_risk: version 1 is the champion, but does not load" in package
        assert "it is damaged" in log
        answer = client.post("/models/delay_risk/predict", json=[GOOD])
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_champion")
        answer = client.post("/models/delay/predict", json=[GOOD])
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "log_not_writable")


def relock(root: Path, model: str, version: int) -> None:
    """Make a version one that was fitted with another scikit-learn, its digest right."""
    with Store(load_project(root).store_path) as store, tempfile.TemporaryDirectory() as folder:
        digest = Registry(store, SystemClock()).get(model, version).digest
        copy = Path(shutil.copytree(store.artifacts.get(digest), Path(folder) / "package"))
        manifest = json.loads((copy / "envol.json").read_text())
        manifest["lock"]["scikit-learn"] = "0.1"
        (copy / "envol.json").write_text(json.dumps(manifest))
        versions = tables.model_version
        here = (versions.c.model == model) & (versions.c.version == version)
        with store.metadata.begin() as connection:
            connection.execute(versions.update().where(here).values(digest=store.artifacts.put(copy)))


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
