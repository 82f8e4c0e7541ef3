"""One prediction's latency and throughput: Envol's service beside a hand-written FastAPI server.

    python benchmarks/serving.py [--quick] [--json]

Both serve the same fitted pipeline (6 numbers, 3 categories, 100 boosted trees) and get the same rows over
one connection, in turns, in one run. Envol also checks the rows against the signature and writes each
prediction to disk before it answers; the other server does neither.

The peer runs in an environment of its own, `.bench/fastapi`, made at the first run with `python -m venv`
and pip, with this environment's versions of scikit-learn, pandas and numpy. `--peer PYTHON` takes another.
"""

from __future__ import annotations

import argparse
import json
import math
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cloudpickle
import numpy as np
import polars as pl

from envol.project import load_project
from envol.project.clock import SystemClock
from envol.registry import Registry
from envol.serving import ServerProcess
from envol.storage import Store
from envol.training import train

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parent / ".bench" / "fastapi"
SAME = ("scikit-learn", "pandas", "numpy", "scipy", "joblib", "cloudpickle", "uvicorn", "httptools", "uvloop")
DAYS, ROWS = 40, 500
START = datetime(2013, 1, 1, tzinfo=UTC)
TOML = '[project]\nname = "benchmark"\nstart = "2013-01-01"\n'
MODULE = """
import envol
import pandas as pd
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder


@envol.source(every="1d")
def flights(window: envol.Window) -> pl.DataFrame: ...


@envol.source(every="1d")
def arrivals(window: envol.Window) -> pl.DataFrame: ...


@envol.model(features="flights", labels="arrivals", key="id", target="late", train="30d", every="7d", folds=1)
def late(X: pd.DataFrame, y: pd.Series):
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encode, ["carrier", "origin", "destination"]), remainder="passthrough")
    trees = HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0)
    return make_pipeline(columns, trees).fit(X, y)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the requests")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--peer", type=Path, help="Python that has FastAPI, for the other server")
    given = parser.parse_args()
    peer = given.peer or peer_environment()
    rounds = 4 if given.quick else 20
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        rows, pickled = make_project(root)
        port = free_port()
        command = [str(peer), str(HERE / "fastapi_server.py"), str(pickled), str(port)]
        with ServerProcess(root) as envol, subprocess.Popen(command) as other:
            try:
                results = measure(envol.url, f"http://127.0.0.1:{port}", rows, rounds)
            finally:
                other.terminate()
    print(json.dumps(results, indent=2) if given.json else table(results))


def make_project(root: Path) -> tuple[list[dict[str, Any]], Path]:
    """A project with a champion; rows to ask for, and its estimator in a file."""
    root.mkdir()
    (root / "envol.toml").write_text(TOML)
    (root / "benchmark_nodes.py").write_text(MODULE)
    random = np.random.default_rng(0)
    count = DAYS * ROWS
    features = pl.DataFrame(
        {
            "id": np.arange(count),
            "distance": random.integers(100, 3000, count),
            "hour": random.integers(5, 24, count),
            "wind": np.where(random.random(count) < 0.05, math.nan, random.gamma(4, 3, count)),
            "temperature": np.where(random.random(count) < 0.05, math.nan, random.normal(12, 9, count)),
            "visibility": random.uniform(0, 10, count),
            "delay_before": random.gamma(1, 15, count),
            "carrier": random.choice([f"C{number}" for number in range(14)], count),
            "origin": random.choice(["EWR", "JFK", "LGA"], count),
            "destination": random.choice([f"D{number}" for number in range(100)], count),
            "window_start": [START + timedelta(days=number // ROWS) for number in range(count)],
        }
    ).with_columns(pl.col("wind", "temperature").fill_nan(None))
    risk = features["delay_before"] / 30 + features["hour"] / 12 + features["wind"].fill_null(12) / 10
    late = (risk.to_numpy() + random.normal(0, 1, count)) > 4
    labels = features.select("id", "window_start", pl.Series("late", late))
    project = load_project(root)
    with Store(project.store_path) as store:
        registry = Registry(store, SystemClock())
        node: Any = project.graph.nodes["late"]
        trained = train(node, features, labels, cutoff=START + timedelta(days=DAYS), parameters={})
        registry.register(trained, fingerprint="benchmark", lineage={}, run="benchmark")
        registry.promote("late", 1, by="benchmark", reason="the only one")
    pickled = root.parent / "model.pkl"
    pickled.write_bytes(cloudpickle.dumps(trained.estimator))
    return features.drop("id", "window_start").tail(200).to_dicts(), pickled


def measure(envol: str, other: str, rows: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Milliseconds of each request, one a row and round, the servers in turns."""
    with Connection(envol, "/models/late/predict") as ours, Connection(other, "/predict") as theirs:
        for row in rows[:50]:  # warm up, and see that both predict the same
            mine, its = ours.ask([row])["predictions"][0], theirs.ask([row])["predictions"][0]
            if (
                abs(mine["probability"] - its["probability"]) > 1e-9
                or mine["prediction"] != its["prediction"]
            ):
                raise SystemExit(f"the servers disagree on {row}: {mine}, {its}")
    times: dict[str, list[float]] = {"envol": [], "fastapi": []}
    for _ in range(rounds):
        for name, url, path in (("envol", envol, "/models/late/predict"), ("fastapi", other, "/predict")):
            with Connection(url, path) as connection:
                times[name] += timed(connection.ask, rows)
    figures = {name: summary(found) for name, found in times.items()}
    mine, its = figures["envol"], figures["fastapi"]
    ratios = {key: round(its[key] / mine[key], 2) for key in ("p50_ms", "p99_ms")}
    ratios["requests_per_second"] = round(mine["requests_per_second"] / its["requests_per_second"], 2)
    return {"requests_each": rounds * len(rows), **figures, "times_better": ratios}


def timed(ask: Callable[[list[dict[str, Any]]], Any], rows: list[dict[str, Any]]) -> list[float]:
    found = []
    for row in rows:
        start = time.perf_counter()
        ask([row])
        found.append((time.perf_counter() - start) * 1000)
    return found


def summary(times: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(times, [50, 99])
    rate = len(times) / sum(times) * 1000
    return {
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "requests_per_second": round(rate, 1),
    }


def table(results: dict[str, Any]) -> str:
    lines = [f"{'':28}{'p50 ms':>10}{'p99 ms':>10}{'requests/s':>12}"]
    for name, title in (
        ("envol", "Envol"),
        ("fastapi", "FastAPI, hand-written"),
        ("times_better", "Envol is better, times"),
    ):
        one = results[name]
        lines.append(f"{title:28}{one['p50_ms']:>10}{one['p99_ms']:>10}{one['requests_per_second']:>12}")
    return "\n".join([*lines, f"1 row, 1 connection, {results['requests_each']} requests each, in turns"])


class Connection:
    """One HTTP connection that is kept; a client that costs little beside what it measures."""

    def __init__(self, url: str, path: str) -> None:
        address = urlsplit(url)
        self._where = (address.hostname or "", address.port or 80)
        self._head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"

    def __enter__(self) -> Connection:
        for _ in range(600):
            try:
                self._socket = socket.create_connection(self._where, timeout=60)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return self
            except ConnectionRefusedError:
                time.sleep(0.1)
        raise SystemExit(f"nothing answers at {self._where}")

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, rows: list[dict[str, Any]]) -> Any:
        body = json.dumps({"rows": rows}).encode()
        self._socket.sendall(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, answer = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(answer) < length:
            answer += self._more()
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"refused: {head.decode()} {answer.decode()}")
        return json.loads(answer)

    def _more(self) -> bytes:
        received = self._socket.recv(65536)
        if not received:
            raise SystemExit("the server closed the connection")
        return received


def peer_environment() -> Path:
    """The Python of the peer's environment, made when it is not there."""
    python = ENVIRONMENT / "bin" / "python"
    ready = ENVIRONMENT / ".ready"
    if not ready.exists():
        print(f"making {ENVIRONMENT.relative_to(HERE.parent)} for the FastAPI server ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        (ENVIRONMENT.parent / ".gitignore").write_text("*\n")
        pins = [f"{name}=={version(name)}" for name in SAME]
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "fastapi", *pins], check=True)
        ready.touch()
    return python


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
