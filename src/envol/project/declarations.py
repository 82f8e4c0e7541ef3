"""What each kind of node declares."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from envol.project.windows import Period, Span

FrameKind = Literal["polars", "lazy", "pandas", "arrow", "numpy"]
Empty = Literal["allow", "error"]
OnBroken = Literal["quarantine", "fail"]
Task = Literal["binary", "multiclass", "regression"]
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
    """What every node has: its function, its contract, and how its tasks are carried out.

    `backoff` is the wait before the first retry in seconds (it doubles), `timeout` seconds for one try.
    `resources` are what a task occupies while it runs, limited under [resources]; `at_once` limits the tasks
    of the node side by side. An `isolated` task has a process of its own, with at most `memory` bytes.
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
    isolated: bool = False
    memory: int | None = None
    resources: tuple[str, ...] = ()
    at_once: int | None = None

    @property
    def needs_process(self) -> bool:
        """Whether its tasks run in a process of their own, which can be ended."""
        return self.isolated or self.timeout is not None or self.memory is not None

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
    """Extraction of one window of raw rows; the window is complete `delay` after its end.

    Whenever a window falls due, the `reread` windows before it are read again. The window fails when more
    than the share `max_broken` of its rows breaks the contract.
    """

    every: Period
    delay: Span | None = None
    reread: int = 0
    empty: Empty = "allow"
    on_broken: OnBroken = "quarantine"
    max_broken: float | None = None


@dataclass(frozen=True, kw_only=True)
class Table(Node):
    """Rows of one window made from the same window of its inputs, and `lookback` before it.

    Of an input in `history` only what came before the window is read.
    """

    every: Period | None = None
    lookback: Mapping[str, Span]
    history: Mapping[str, Span]
    empty: Empty = "allow"
    on_broken: OnBroken = "quarantine"
    max_broken: float | None = None


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
