"""Serving: champions over HTTP, followed as they change, each prediction logged before it is answered."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from envol.serving.predictions import Prediction, PredictionLog

if TYPE_CHECKING:
    from envol.serving.app import App, create_app
    from envol.serving.lineage import PredictionLineage, prediction_lineage
    from envol.serving.models import Champions, Served
    from envol.serving.process import ServerProcess
    from envol.serving.server import serve

__all__ = [
    "App",
    "Champions",
    "Prediction",
    "PredictionLineage",
    "PredictionLog",
    "Served",
    "ServerProcess",
    "create_app",
    "prediction_lineage",
    "serve",
]

_LATER = {
    "App": "app",
    "Champions": "models",
    "PredictionLineage": "lineage",
    "Served": "models",
    "ServerProcess": "process",
    "create_app": "app",
    "prediction_lineage": "lineage",
    "serve": "server",
}


def __getattr__(name: str) -> object:
    # Who only reads the prediction log does not wait for the web server's modules.
    if name in _LATER:
        return getattr(import_module(f"envol.serving.{_LATER[name]}"), name)
    raise AttributeError(f"module 'envol.serving' has no attribute {name!r}")
