"""Nodes: the four decorators that a project is written with, and what each declares.

A decorated function stays a plain function. Its parameter names are its inputs: a parameter annotated
with a frame type (or not annotated) is another node's table, one annotated `Window` receives the window,
any other is a parameter from `envol.toml` or the default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from envol.errors import ProjectError
from envol.project.windows import Period, Span, Window

FrameKind = Literal["polars", "lazy", "pandas", "arrow", "numpy"]
Empty = Literal["allow", "error"]
OnBroken = Literal["quarantine", "fail"]
Task = Literal["binary", "multiclass", "regression"]
F = TypeVar("F", bound=Callable[..., Any])

KINDS: dict[tuple[str, str], FrameKind] = {
    ("polars", "DataFrame"): "polars",
    ("polars", "Series"): "polars",
    ("polars", "LazyFrame"): "lazy",
    ("pandas", "DataFrame"): "pandas",
    ("pandas", "Series"): "pandas",
    ("pyarrow", "Table"): "arrow",
    ("pyarrow", "ChunkedArray"): "arrow",
    ("pyarrow", "Array"): "arrow",
    ("numpy", "ndarray"): "numpy",
}
REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One parameter of a node's function: an input table of a frame kind, the window, or a parameter."""

    name: str
    kind: FrameKind | Literal["window", "parameter"]
    default: Any = REQUIRED

    @property
    def is_input(self) -> bool:
        return self.kind not in ("window", "parameter")


@dataclass(frozen=True, kw_only=True)
class Node:
    """What every node has: its function, its contract, and how a failing task is tried again.

    `backoff` is the wait before the first retry in seconds (it doubles), `timeout` seconds for one try.
    """

    name: str
    function: Callable[..., Any]
    module: str
    doc: str
    arguments: tuple[Argument, ...]
    contract: type[Any] | None = None
    retries: int = 0
    backoff: float = 1.0
    timeout: float | None = None

    @property
    def kind(self) -> str:
        """ "source", "table", "model", "predictions", "outcomes" or "value"."""
        return type(self).__name__.lower()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tables that the node reads."""
        return tuple(argument.name for argument in self.arguments if argument.is_input)


@dataclass(frozen=True, kw_only=True)
class Source(Node):
    """Extraction of one window of raw rows; the window is complete `delay` after its end."""

    every: Period
    delay: Span | None = None
    empty: Empty = "allow"
    on_broken: OnBroken = "quarantine"


@dataclass(frozen=True, kw_only=True)
class Table(Node):
    """Rows of one window made from the same window of its inputs, and `lookback` before it."""

    every: Period | None = None
    lookback: Mapping[str, Span]
    empty: Empty = "allow"
    on_broken: OnBroken = "quarantine"


@dataclass(frozen=True, kw_only=True)
class Model(Node):
    """A model fitted on the last `train` of features joined to labels, again `every` so often."""

    features: str
    labels: str
    key: tuple[str, ...]
    target: str
    exclude: tuple[str, ...] = ()
    train: Span
    every: Span
    folds: int = 3
    test: Span
    task: Task | None = None
    promote: Literal["auto", "manual"] = "auto"
    unknown_categories: Literal["refuse", "accept"] = "refuse"
    seed: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.features, self.labels)

    def history_start(self, cutoff: datetime) -> datetime:
        """The earliest instant that training at the cutoff, backtest included, can use."""
        return self.train.before(self.test.times(self.folds).before(cutoff))

    @property
    def predictions(self) -> str:
        """Name of the table of this model's predictions."""
        return f"{self.name}_predictions"

    @property
    def outcomes(self) -> str:
        """Name of the table of predictions with the truth that arrived later."""
        return f"{self.name}_outcomes"


@dataclass(frozen=True, kw_only=True)
class Predictions(Node):
    """What a model predicts for each window of its features; declared by the model itself."""

    model: Model

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.model.name, self.model.features)


@dataclass(frozen=True, kw_only=True)
class Outcomes(Node):
    """Predictions joined to the labels that arrived later; declared by the model itself."""

    model: Model

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.model.predictions, self.model.labels)


@dataclass(frozen=True, kw_only=True)
class Value(Node):
    """Worth of each outcome of a model, in `unit`: one number a row."""

    model: str
    unit: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (f"{self.model}_outcomes",)


def derived(node: Model) -> tuple[Predictions, Outcomes]:
    """The two tables that come with a model."""
    common: dict[str, Any] = {
        "function": node.function,
        "module": node.module,
        "arguments": (),
        "model": node,
    }
    return (
        Predictions(name=node.predictions, doc=f"Predictions of {node.name}", **common),
        Outcomes(name=node.outcomes, doc=f"Predictions of {node.name} with what came true", **common),
    )


def source(
    *,
    every: str = "1d",
    delay: str | None = None,
    contract: type[Any] | None = None,
    empty: Empty = "allow",
    on_broken: OnBroken = "quarantine",
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
) -> Callable[[F], F]:
    """Declare the extraction of one window of raw rows.

    Args:
        every: length of a window: "1h", "1d", "1w" or "1mo".
        delay: how long after its end a window is complete, for example "1d".
        contract: a dataframely `Schema` that each row must meet.
        empty: whether a window without rows is allowed or an "error".
        on_broken: rows that break the contract go to "quarantine", or the window is to "fail".
        retries: how often a failing task is tried again, after `backoff` seconds that double.
        timeout: seconds that one try may take.
    """

    def declare(function: F) -> F:
        return _register(
            function,
            Source,
            every=Period.parse(every),
            delay=Span.parse(delay) if delay else None,
            contract=contract,
            empty=_choice("empty", empty, ("allow", "error")),
            on_broken=_choice("on_broken", on_broken, ("quarantine", "fail")),
            retries=retries,
            backoff=backoff,
            timeout=timeout,
        )

    return declare


def table(
    *,
    every: str | None = None,
    lookback: Mapping[str, str] | None = None,
    contract: type[Any] | None = None,
    empty: Empty = "allow",
    on_broken: OnBroken = "quarantine",
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
) -> Callable[[F], F]:
    """Declare a table made from other tables, one window at a time.

    Args:
        every: length of a window; that of the inputs when left out.
        lookback: for an input, how much before the window is read as well, for example {"flights": "7d"}.
        contract, empty, on_broken, retries, backoff, timeout: as for `source`.
    """

    def declare(function: F) -> F:
        return _register(
            function,
            Table,
            every=Period.parse(every) if every else None,
            lookback={name: Span.parse(span) for name, span in (lookback or {}).items()},
            contract=contract,
            empty=_choice("empty", empty, ("allow", "error")),
            on_broken=_choice("on_broken", on_broken, ("quarantine", "fail")),
            retries=retries,
            backoff=backoff,
            timeout=timeout,
        )

    return declare


def model(
    *,
    features: str,
    labels: str,
    key: str | Sequence[str],
    target: str,
    train: str,
    every: str,
    exclude: Sequence[str] = (),
    folds: int = 3,
    test: str | None = None,
    task: Task | None = None,
    promote: Literal["auto", "manual"] = "auto",
    unknown_categories: Literal["refuse", "accept"] = "refuse",
    seed: int = 0,
    timeout: float | None = None,
) -> Callable[[F], F]:
    """Declare a model: a function of X and y that returns a fitted estimator.

    Args:
        features: table of one row a case; labels: table that holds the truth.
        key: column or columns that join the two; target: the column of `labels` to predict.
        train: how much history one fit sees, for example "120d"; every: how often it is fitted again.
        exclude: columns of `features` that the estimator does not get.
        folds: how many times the backtest trains and evaluates on the following `test` (default: `every`).
        task: "binary", "multiclass" or "regression"; found from the target when left out.
        promote: "auto" makes a version that beats its baseline the champion, "manual" leaves it to you.
        unknown_categories: whether a prediction with a text never seen in training is refused or accepted.
        seed: seed of every random generator.
    """

    def declare(function: F) -> F:
        return _register(
            function,
            Model,
            features=features,
            labels=labels,
            key=(key,) if isinstance(key, str) else tuple(key),
            target=target,
            train=Span.parse(train),
            every=Span.parse(every),
            exclude=tuple(exclude),
            folds=folds,
            test=Span.parse(test or every),
            task=None if task is None else _choice("task", task, ("binary", "multiclass", "regression")),
            promote=_choice("promote", promote, ("auto", "manual")),
            unknown_categories=_choice("unknown_categories", unknown_categories, ("refuse", "accept")),
            seed=seed,
            timeout=timeout,
        )

    return declare


def value(*, model: str, unit: str) -> Callable[[F], F]:
    """Declare the worth of each outcome of a model: a function of the outcomes, one number a row."""

    def declare(function: F) -> F:
        return _register(function, Value, model=model, unit=unit)

    return declare


def _register(function: F, kind: type[Node], **settings: Any) -> F:
    name = function.__name__
    try:
        node = kind(
            name=name,
            function=function,
            module=function.__module__,
            doc=inspect.getdoc(function) or "",
            arguments=tuple(_arguments(function, kind)),
            **settings,
        )
    except ProjectError as error:
        raise error.located(node=name) from None
    found: list[Node] = function.__globals__.setdefault("__envol_nodes__", [])
    if any(other.name == name for other in found):
        raise ProjectError(
            f"two nodes of the module {function.__module__} have this name",
            node=name,
            remedy="rename one of them",
        )
    found.append(node)
    function.__envol_node__ = node  # type: ignore[attr-defined]
    return function


def _arguments(function: Callable[..., Any], kind: type[Node]) -> list[Argument]:
    arguments = []
    for index, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ProjectError(
                f"the parameter *{parameter.name} has no name to look up",
                remedy="name each input and parameter",
            )
        frame_expected = kind is Table or (kind is Model and index < 2) or (kind is Value and index == 0)
        arguments.append(
            Argument(
                name=parameter.name,
                kind=_kind_of(function, parameter, frame_expected),
                default=parameter.default,
            )
        )
    if kind is Model and len(arguments) < 2:
        raise ProjectError(
            "a model is a function of X and y", remedy="def my_model(X: pl.DataFrame, y: pl.Series)"
        )
    if kind is Value and not arguments:
        raise ProjectError(
            "a value is a function of the outcomes", remedy="def worth(outcomes: pl.DataFrame, ...)"
        )
    return arguments


def _kind_of(
    function: Callable[..., Any], parameter: inspect.Parameter, frame_expected: bool
) -> FrameKind | Literal["window", "parameter"]:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, function.__globals__)
        except Exception:
            raise ProjectError(
                f"the annotation {parameter.annotation!r} of {parameter.name} cannot be resolved",
                remedy="import its type at the top of the module",
            ) from None
    if annotation is Window:
        return "window"
    if annotation is parameter.empty:
        if parameter.name == "window":
            return "window"
        return "polars" if frame_expected and parameter.default is parameter.empty else "parameter"
    root = getattr(annotation, "__module__", "").partition(".")[0]
    return KINDS.get((root, getattr(annotation, "__name__", "")), "parameter")


def _choice(name: str, given: Any, allowed: tuple[str, ...]) -> Any:
    if given not in allowed:
        raise ProjectError(
            f"{name}={given!r} is not known", remedy=f"write one of {', '.join(map(repr, allowed))}"
        )
    return given
