"""What `make demo` does: run the project, ask the service for one prediction, tell what came of it.

python examples/flights/demo.py [--serve]
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
MODEL, VALUE, FEATURES = "delay_risk", "rebooking", "departures"


def main(serve: bool) -> int:
    began = time.monotonic()
    ran = subprocess.run([sys.executable, "-m", "envol.cli", "--project", str(ROOT), "run"], check=False)
    if ran.returncode != 0:
        return ran.returncode
    ask_service(serve, lambda: summary(time.monotonic() - began))
    return 0


def ask_service(stay: bool, summarise: Any) -> None:
    """Start the service, have it predict one stored flight, and end it unless it is to stay."""
    from envol.project import load_project
    from envol.serving import ServerProcess
    from envol.serving.server import free_port

    project = load_project(ROOT)
    port = free_port(project.config.serve.host, project.config.serve.port)
    with ServerProcess(ROOT, host=project.config.serve.host, port=port) as server:
        print(f"\nThe service runs at {server.url}; it predicts one flight of the last day:")
        flight = one_flight(server.url)
        request = urllib.request.Request(
            f"{server.url}/models/{MODEL}/predict",
            data=json.dumps({"rows": [flight]}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            [answer] = json.load(response)["predictions"]
        print(
            f"  {flight['carrier']} {flight['origin']} -> {flight['dest']} at {flight['hour']} o'clock: "
            f"late with probability {answer['probability']:.3f} (prediction {answer['id']})"
        )
        summarise()
        print("\nOpen")
        print(f"  {server.url}/                     models, and how to ask them")
        print(f"  {server.url}/openapi.json         description of the interface")
        print(f"  {ROOT / 'explore.ipynb'}  the data in a notebook")
        if stay:
            print("\nThe service stays until Ctrl-C.")
            with suppress_interrupt():
                signal.pause()
    print("\nThe service has ended." if stay else "\nThe service has ended; `make demo SERVE=1` keeps it.")


if __name__ == "__main__":
    sys.exit(main("--serve" in sys.argv[1:]))
