"""Train, backtest and evaluate models."""

from __future__ import annotations

from envol.training.backtest import Backtest, Fold, backtest
from envol.training.columns import PREDICTION, PROBABILITY, prediction_columns, probability_column
from envol.training.data import Examples, prepare
from envol.training.fit import frame_kind
from envol.training.metrics import MAIN, Bin, Metric, Metrics, evaluate
from envol.training.predict import predict_frame, to_model_kind
from envol.training.split import Skipped
from envol.training.train import Trained, train

__all__ = [
    "MAIN",
    "PREDICTION",
    "PROBABILITY",
    "Backtest",
    "Bin",
    "Examples",
    "Fold",
    "Metric",
    "Metrics",
    "Skipped",
    "Trained",
    "backtest",
    "evaluate",
    "frame_kind",
    "predict_frame",
    "prediction_columns",
    "prepare",
    "probability_column",
    "to_model_kind",
    "train",
]
