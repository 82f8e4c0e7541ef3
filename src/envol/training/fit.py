"""Fit the user's model on X and y."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from envol.errors import ProjectError
from envol.project.frames import series_to_kind
from envol.project.nodes import REQUIRED, FrameKind, Model, Task
from envol.project.usercode import user_code
from envol.training.predict import no_probability, to_model_kind
from envol.training.repeatable import seeded

SEEDS = ("seed", "random_state")


def fit(model: Model, X: pl.DataFrame, y: pl.Series, task: Task, parameters: Mapping[str, Any]) -> Any:
    """The estimator that the model's function returns for X and y, every generator seeded.

    Raises:
        ProjectError: no estimator comes back, or one without predict (or predict_proba for classes).
        Failure: the function raises.
    """
    arguments = call_arguments(model, parameters)
    kind, target_kind = model.arguments[0].kind, model.arguments[1].kind
    inputs = X.lazy() if kind == "lazy" else to_model_kind(X, frame_kind(model))
    target = y if target_kind in ("lazy", "window", "parameter") else series_to_kind(y, target_kind)
    with seeded(model.seed), user_code("the function", model.name):
        estimator = model.function(inputs, target, **arguments)
    return _checked(model, estimator, task)


def frame_kind(model: Model) -> FrameKind:
    """What the model's estimator takes as X, by the annotation of the function's first parameter."""
    kind = model.arguments[0].kind
    return kind if kind in ("pandas", "arrow", "numpy") else "polars"


def call_arguments(model: Model, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The function's arguments beside X and y.

    One named `seed` or `random_state` is the node's seed, unless `parameters` sets another than its default.

    Raises:
        ProjectError: a parameter that the function does not have, or one without a value.
    """
    arguments = {argument.name: argument for argument in model.arguments[2:]}
    for name in parameters:
        if name not in arguments:
            raise ProjectError(
                f"the function has no parameter {name!r}",
                node=model.name,
                remedy=f"its parameters are {', '.join(arguments) or 'none'}",
            )
    given = dict(parameters)
    for name in SEEDS:
        if name in arguments and given.get(name) in (None, arguments[name].default):
            given[name] = model.seed
    for name, argument in arguments.items():
        if name not in given and argument.default is REQUIRED:
            raise ProjectError(
                f"the parameter {name!r} has no value",
                node=model.name,
                remedy=f"set it in envol.toml, or give it a default in {model.module}",
            )
    return given


def _checked(model: Model, estimator: Any, task: Task) -> Any:
    if callable(getattr(estimator, "predict", None)):
        if task != "regression" and not hasattr(estimator, "predict_proba"):
            raise no_probability(estimator, model.name)
        return estimator
    returned = (
        "None (is a `return` missing?)"
        if estimator is None
        else f"a {type(estimator).__name__} without predict"
    )
    raise ProjectError(
        f"the function returned {returned}, not a fitted estimator",
        node=model.name,
        remedy="end the function with `return estimator.fit(X, y)`",
    )
