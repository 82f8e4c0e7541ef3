"""What `make demo` does: run the project, ask the service for one prediction, tell what came of it.

python examples/flights/demo.py [--serve]
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from envol import Connection, connect
from envol.serving import ServerProcess

ROOT = Path(__file__).parent
MODEL, VALUE, FEATURES = "delay_risk", "rebooking", "departures"


def main(stay: bool) -> int:
    began = time.monotonic()
    ran = subprocess.run([sys.executable, "-m", "envol.cli", "run", "--project", str(ROOT)], check=False)
    if ran.returncode != 0:
        return ran.returncode
    with connect(ROOT) as project:
        tell_performance(project)
        listen = project.project.config.serve
        flight = one_flight(project)
    with ServerProcess(ROOT, host=listen.host, port=free_port(listen.host, listen.port)) as server:
        ask(server.url, flight)
        print(f"\nAll of it took {time.monotonic() - began:.0f} s. Open")
        notebook = os.path.relpath(ROOT / "explore.ipynb")
        for place, what in (
            (f"{server.url}/", "the models, and how to ask them" + ("" if stay else " (make demo SERVE=1)")),
            (f"{server.url}/openapi.json", "the same for programs"),
            (notebook, "the data and the predictions in charts (pip install jupyterlab)"),
        ):
            print(f"  {place:<36}{what}")
        if stay:
            print("\nThe service stays until Ctrl-C.", flush=True)
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    print("The service has ended." + ("" if stay else " To keep it: make demo SERVE=1"))
    return 0


def tell_performance(project: Connection) -> None:
    """Print how good the stored predictions were, and what acting on them is worth."""
    measured, benefit = project.performance(MODEL), project.benefit(VALUE)
    assert measured is not None and benefit is not None, "the run made outcomes"
    months = list(measured.months)
    print(f"\nPredictions that {MODEL} made for {measured.windows} days it had not seen, and what came true")
    print("  month    flights    late  predicted    AUC")
    for month, metrics in measured.months.items():
        predicted, observed = means(metrics)
        area = metrics["roc_auc"].value
        print(f"  {month}  {metrics.rows:>7,}  {observed:>6.1%}  {predicted:>9.1%}  {area:.3f}")
    overall = measured.overall["roc_auc"]
    print(f"  {months[0]} to {months[-1]}: AUC {overall}, {measured.overall.rows:,} flights")
    low, likely, high = (quantile / 1e6 for quantile in (benefit.p10, benefit.p50, benefit.p90))
    print(
        f"Worth of acting on them, M {benefit.unit} a year: P10 {low:.1f}, P50 {likely:.1f}, P90 {high:.1f}"
    )
    print("  (what a hit saves and an alert costs are invented, see envol.toml)")


def means(metrics: Any) -> tuple[float, float]:
    """Mean prediction and observed rate, out of the calibration's bins."""
    rows = sum(part.count for part in metrics.calibration)
    predicted = sum(part.predicted * part.count for part in metrics.calibration) / rows
    return predicted, sum(part.observed * part.count for part in metrics.calibration) / rows


def one_flight(project: Connection) -> dict[str, Any]:
    """The inputs of a flight of the last day that is stored."""
    fields = project.model(MODEL).signature.fields
    flights = project.table(FEATURES, start="2013-12-31").select(field.name for field in fields)
    return flights.drop_nulls([field.name for field in fields if not field.nullable]).row(0, named=True)


def ask(url: str, flight: dict[str, Any]) -> None:
    """Have the service predict the flight."""
    request = urllib.request.Request(
        f"{url}/models/{MODEL}/predict",
        data=json.dumps({"rows": [flight]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        [answer] = json.load(response)["predictions"]
    route = f"{flight['carrier']} from {flight['origin']} to {flight['dest']}"
    print(f"\nThe service at {url} was asked about {route}:")
    print(f"  late with probability {answer['probability']:.3f}, logged as {answer['id']}")


def free_port(host: str, wanted: int) -> int:
    """The wanted port, or 0 (any) where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError:
            return 0
    return wanted


if __name__ == "__main__":
    sys.exit(main("--serve" in sys.argv[1:]))
