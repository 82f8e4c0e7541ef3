"""A node with a time limit runs in a process of its own, which can be ended when the time is up.

Tables go there and back as Arrow files. `python -m envol.pipeline.isolation FOLDER` is that process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from envol import errors
from envol.errors import EnvolError, Failure
from envol.pipeline.compute import compute
from envol.project import Project, load_project
from envol.project.nodes import Model, Node
from envol.project.windows import Window

if TYPE_CHECKING:
    from envol.training import Trained

_REQUEST, _RESULT, _ERROR, _TRAINED = "request.json", "result.arrow", "error.json", "trained.pickle"


def compute_apart(
    project: Project, node: Node, frames: Mapping[str, pl.DataFrame], window: Window
) -> pl.DataFrame:
    """As `compute`, in a process that is ended after `node.timeout` seconds.

    Raises:
        Failure: also when the time is up, or the process died.
    """
    with tempfile.TemporaryDirectory(prefix="envol-") as folder:
        place = Path(folder)
        _request(place, project, node, frames, {"window": window.epoch})
        _run(place, node)
        return pl.read_ipc(place / _RESULT)


def train_apart(
    project: Project, node: Model, features: pl.DataFrame, labels: pl.DataFrame, cutoff: datetime
) -> Trained:
    """As `training.train`, in a process that is ended after `node.timeout` seconds."""
    import cloudpickle

    with tempfile.TemporaryDirectory(prefix="envol-") as folder:
        place = Path(folder)
        frames = {"features": features, "labels": labels}
        _request(place, project, node, frames, {"cutoff": cutoff.timestamp()})
        _run(place, node)
        trained: Trained = cloudpickle.loads((place / _TRAINED).read_bytes())
        return trained


def _request(
    place: Path, project: Project, node: Node, frames: Mapping[str, pl.DataFrame], when: Mapping[str, float]
) -> None:
    for name, frame in frames.items():
        frame.write_ipc(place / f"{name}.arrow")
    request = {"root": str(project.root), "node": node.name, "frames": list(frames), **when}
    (place / _REQUEST).write_text(json.dumps(request))


def _run(place: Path, node: Node) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", __name__, str(place)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = child.communicate(timeout=node.timeout)
    except subprocess.TimeoutExpired:
        _end(child)
        raise Failure(
            f"not done after {node.timeout:g} s, and ended", remedy="raise its `timeout`, or make it quicker"
        ) from None
    except BaseException:
        _end(child)
        raise
    print(said, end="")
    error = place / _ERROR
    if error.exists():
        told = json.loads(error.read_text())
        kind: type[EnvolError] = getattr(errors, told["kind"])
        raise kind(told["message"], node=told["node"], window=told["window"], remedy=told["remedy"])
    if child.returncode != 0:
        how = _signal_name(-child.returncode) if child.returncode < 0 else f"exit code {child.returncode}"
        raise Failure(f"its process died ({how})", remedy="look at the task's log: envol runs --log")


def _end(child: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _serve(place: Path) -> None:
    """What the process of its own does: read the request, compute or train, write the result."""
    _die_with_parent()
    request = json.loads((place / _REQUEST).read_text())
    project = load_project(Path(request["root"]))
    node = project.graph.nodes[request["node"]]
    parameters: Mapping[str, Any] = project.parameters[node.name].values
    frames = {name: pl.read_ipc(place / f"{name}.arrow") for name in request["frames"]}
    try:
        if isinstance(node, Model):
            import cloudpickle

            from envol.training import train

            zone = project.calendar.zone
            cutoff = datetime.fromtimestamp(request["cutoff"], UTC).astimezone(zone)
            trained = train(
                node,
                frames["features"],
                frames["labels"],
                cutoff=cutoff,
                parameters=parameters,
                progress=lambda text: print(text, flush=True),
            )
            (place / _TRAINED).write_bytes(cloudpickle.dumps(trained))
        else:
            window = project.calendar.from_epoch(project.graph.period_of(node.name), int(request["window"]))
            compute(node, frames, window, parameters).write_ipc(place / _RESULT)
    except EnvolError as error:
        told = {"kind": type(error).__name__, "message": error.message, "remedy": error.remedy}
        told |= {"node": error.node, "window": error.window}
        (place / _ERROR).write_text(json.dumps(told))


def _die_with_parent() -> None:
    """Have the kernel end this process when the run that waits for it is killed (Linux)."""
    import ctypes

    pr_set_pdeathsig = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
