"""Serving: champions over HTTP, followed as they change, each prediction logged before it is answered."""

from __future__ import annotations

from envol.serving.predictions import Prediction, PredictionLog

__all__ = ["Prediction", "PredictionLog"]
