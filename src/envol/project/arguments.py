"""Arguments of a node's function: what each parameter receives, by its annotation."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from envol.errors import ProjectError
from envol.project.declarations import Argument, FrameKind, Model, Node, Source, Table, Value
from envol.project.windows import Window

FRAMES: dict[tuple[str, str], FrameKind] = {
    ("polars", "DataFrame"): "polars",
    ("polars", "LazyFrame"): "lazy",
    ("dataframely", "DataFrame"): "polars",
    ("dataframely", "LazyFrame"): "lazy",
    ("pandas", "DataFrame"): "pandas",
    ("pyarrow", "Table"): "arrow",
}
# What only the X and y of a model may be.
COLUMNS: dict[tuple[str, str], FrameKind] = {
    ("polars", "Series"): "polars",
    ("pandas", "Series"): "pandas",
    ("pyarrow", "ChunkedArray"): "arrow",
    ("pyarrow", "Array"): "arrow",
    ("numpy", "ndarray"): "numpy",
}


def arguments_of(function: Callable[..., Any], kind: type[Node]) -> tuple[Argument, ...]:
    """What the function of a node of that kind is called with.

    Raises:
        ProjectError: a parameter that has no name to look up, whose annotation cannot be resolved, or
            that this kind of node does not take.
    """
    parameters = list(inspect.signature(function).parameters.values())
    frames = 2 if kind is Model else 1 if kind is Value else 0
    if len(parameters) < frames:
        raise (
            ProjectError(
                "a model is a function of X and y", remedy="def my_model(X: pl.DataFrame, y: pl.Series)"
            )
            if kind is Model
            else ProjectError(
                "a value is a function of the outcomes", remedy="def worth(outcomes: pl.DataFrame, ...)"
            )
        )
    return tuple(
        _argument(function, parameter, kind, is_first=position < frames)
        for position, parameter in enumerate(parameters)
    )


def _argument(
    function: Callable[..., Any], parameter: inspect.Parameter, kind: type[Node], *, is_first: bool
) -> Argument:
    name, required = parameter.name, parameter.default is parameter.empty
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise ProjectError(
            f"the parameter {stars}{name} has no name to look up", remedy="name each input and parameter"
        )
    if parameter.kind is parameter.POSITIONAL_ONLY and not (kind is Model and is_first):
        raise ProjectError(
            f"the parameter {name!r} cannot be given by its name", remedy="take the / out of the signature"
        )
    annotation = _annotation(function, parameter)
    named = (
        getattr(annotation, "__module__", "").partition(".")[0],
        getattr(annotation, "__name__", ""),
    )
    if annotation is Window or (annotation is parameter.empty and name == "window"):
        received: FrameKind | Literal["window", "parameter"] = "window"
    elif annotation is parameter.empty:
        received = "polars" if is_first or (kind is Table and required) else "parameter"
    elif named in COLUMNS and (is_first and kind is Model):
        received = COLUMNS[named]
    elif named in COLUMNS and required and kind is not Source:
        raise ProjectError(
            f"the parameter {name!r} is annotated {named[1]}, but an input is a whole table",
            remedy="annotate pl.DataFrame, pl.LazyFrame, pd.DataFrame or pa.Table",
        )
    else:
        received = FRAMES.get(named, "parameter")
    argument = Argument(name=name, kind=received, default=parameter.default)
    _refuse_misplaced(argument, kind, is_first=is_first)
    return argument


def _refuse_misplaced(argument: Argument, kind: type[Node], *, is_first: bool) -> None:
    word = kind.__name__.lower()
    if is_first and not argument.is_input:
        wanted = "X and y" if kind is Model else "the outcomes"
        raise ProjectError(
            f"the parameter {argument.name!r} stands where a {word} receives {wanted}",
            remedy=f"put {wanted} first and annotate them with a frame type",
        )
    if kind is Model and argument.kind == "window":
        raise ProjectError("a model is fitted on many windows and receives none", remedy="take it out")
    if kind in (Model, Value) and argument.is_input and not is_first:
        raise ProjectError(
            f"a {word} reads no other tables, but has the parameter {argument.name!r}",
            remedy="give the parameter another type" + (", or join it to the features" * (kind is Model)),
        )


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The annotation as a type; `X | None` and `Annotated[X, ...]` count as X, `Frame[Schema]` as Frame."""
    annotation = parameter.annotation
    while isinstance(annotation, str):
        try:
            annotation = eval(annotation, getattr(inspect.unwrap(function), "__globals__", {}))
        except Exception:
            raise ProjectError(
                f"the annotation {parameter.annotation!r} of {parameter.name!r} cannot be resolved",
                remedy="import its type at the top of the module, not under TYPE_CHECKING",
            ) from None
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        annotation = annotation.__origin__
    elif origin in (typing.Union, types.UnionType):
        some = [one for one in typing.get_args(annotation) if one is not type(None)]
        annotation = some[0] if len(some) == 1 else annotation
    return typing.get_origin(annotation) or annotation
