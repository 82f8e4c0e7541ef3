"""Nodes: the four decorators that a project is written with, and what each declares.

A decorated function stays a plain function. Its parameter names are its inputs: a parameter annotated
with a frame type (or not annotated) is another node's table, one annotated `Window` receives the window,
any other is a parameter from `envol.toml` or the default.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from types import FunctionType
from typing import Any, Literal, NoReturn, TypeVar

from envol.errors import ProjectError
from envol.project.arguments import arguments_of
from envol.project.declarations import (
    REQUIRED,
    Argument,
    Empty,
    FrameKind,
    Model,
    Node,
    OnBroken,
    Outcomes,
    Predictions,
    Source,
    Table,
    Task,
    Value,
    derived,
)
from envol.project.windows import Period, Span

__all__ = [
    "REQUIRED",
    "Argument",
    "FrameKind",
    "Model",
    "Node",
    "Outcomes",
    "Predictions",
    "Source",
    "Table",
    "Task",
    "Value",
    "derived",
    "model",
    "source",
    "table",
    "value",
]
F = TypeVar("F", bound=Callable[..., Any])


def source(
    *,
    every: str = "1d",
    delay: str | None = None,
    reread: int = 0,
    contract: type[Any] | None = None,
    empty: Empty = "allow",
    on_broken: OnBroken = "quarantine",
    max_broken: float | None = None,
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
    isolated: bool = False,
    memory: str | None = None,
    resources: str | Sequence[str] = (),
    at_once: int | None = None,
) -> Callable[[F], F]:
    """Declare the extraction of one window of raw rows.

    Args:
        every: length of a window: "1h", "1d", "1w" or "1mo".
        delay: how long after its end a window is complete, for example "1d".
        reread: how many of the last windows are read again whenever a window falls due, for rows that come
            late or are corrected.
        contract: a dataframely `Schema` that each row must meet.
        empty: whether a window without rows is allowed or an "error".
        on_broken: rows that break the contract go to "quarantine", or the window is to "fail".
        max_broken: the share of rows, from 0 to 1, that may break the contract before the window fails.
        retries: how often a failing task is tried again, after `backoff` seconds that double.
        timeout: seconds that one try may take.
        isolated: run each task in a process of its own; a `timeout` or `memory` implies it.
        memory: how much memory that process may take, for example "2GB".
        resources: what a task occupies while it runs, for example "database"; how many tasks may at once is
            said under [resources] in envol.toml.
        at_once: how many tasks of this node may run side by side.
    """

    def declare(function: F) -> F:
        with _naming(function):
            return _register(
                function,
                Source,
                every=Period.parse(every),
                delay=None if delay is None else Span.parse(delay),
                reread=_whole("reread", reread),
                **_checks(contract, empty, on_broken, max_broken),
                **_attempts(retries, backoff, timeout),
                **_limits(isolated, memory, resources, at_once),
            )

    return declare


def table(
    *,
    every: str | None = None,
    lookback: Mapping[str, str] | None = None,
    history: Mapping[str, str] | None = None,
    contract: type[Any] | None = None,
    empty: Empty = "allow",
    on_broken: OnBroken = "quarantine",
    max_broken: float | None = None,
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
    isolated: bool = False,
    memory: str | None = None,
    resources: str | Sequence[str] = (),
    at_once: int | None = None,
) -> Callable[[F], F]:
    """Declare a table made from other tables, one window at a time.

    Args:
        every: length of a window; that of the inputs when left out.
        lookback: for an input, how much before the window is read as well, for example {"flights": "7d"}.
        history: for an input, how much before the window is read instead of the window itself, which need
            not be there yet.
        contract, empty, on_broken, max_broken: as for `source`.
        retries, backoff, timeout, isolated, memory, resources, at_once: as for `source`.
    """

    def declare(function: F) -> F:
        with _naming(function):
            return _register(
                function,
                Table,
                every=None if every is None else Period.parse(every),
                lookback=_spans("lookback", lookback),
                history=_spans("history", history),
                **_checks(contract, empty, on_broken, max_broken),
                **_attempts(retries, backoff, timeout),
                **_limits(isolated, memory, resources, at_once),
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
    exclude: str | Sequence[str] = (),
    folds: int = 3,
    test: str | None = None,
    task: Task | None = None,
    promote: Literal["auto", "manual"] = "auto",
    unknown_categories: Literal["refuse", "accept"] = "refuse",
    seed: int = 0,
    timeout: float | None = None,
    isolated: bool = False,
    memory: str | None = None,
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
        timeout, isolated, memory: as for `source`.
    """

    def declare(function: F) -> F:
        with _naming(function):
            return _register(
                function,
                Model,
                features=features,
                labels=labels,
                key=_names("key", key) or _refuse("key", key, "name at least one column"),
                target=target,
                train=_some_time("train", train),
                every=_some_time("every", every),
                exclude=_names("exclude", exclude),
                folds=_whole("folds", folds),
                test=_some_time("test", every if test is None else test),
                task=None if task is None else _choice("task", task, ("binary", "multiclass", "regression")),
                promote=_choice("promote", promote, ("auto", "manual")),
                unknown_categories=_choice("unknown_categories", unknown_categories, ("refuse", "accept")),
                seed=_whole("seed", seed),
                **_attempts(0, 1.0, timeout),
                **_limits(isolated, memory, (), None),
            )

    return declare


def value(*, model: str, unit: str) -> Callable[[F], F]:
    """Declare the worth of each outcome of a model: a function of the outcomes, one number a row."""

    def declare(function: F) -> F:
        with _naming(function):
            return _register(function, Value, model=model, unit=unit)

    return declare


def _register(function: F, kind: type[Node], **settings: Any) -> F:
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType) or plain.__name__ == "<lambda>":
        raise ProjectError(
            f"@{kind.__name__.lower()} is for functions with a name, not for {function!r}",
            remedy="write it as def name(...)",
        )
    name = function.__name__
    node = kind(
        name=name,
        function=function,
        module=function.__module__,
        doc=inspect.getdoc(function) or "",
        arguments=arguments_of(function, kind),
        **settings,
    )
    found = _nodes_of(plain.__globals__)
    if any(other.name == name for other in found):
        raise ProjectError(
            f"two nodes of the module {function.__module__} have this name", remedy="rename one of them"
        )
    found.append(node)
    function.__envol_node__ = node  # type: ignore[attr-defined]
    return function


def _nodes_of(namespace: dict[str, Any]) -> list[Node]:
    """The nodes that the module has declared in this execution of it.

    A notebook runs its cells, and `importlib.reload` the whole module, again in the same namespace:
    neither declares anything twice.
    """
    execution = namespace.get("__spec__")
    again = execution is not namespace.get("__envol_execution__") or namespace.get("__name__") == "__main__"
    if again:
        namespace["__envol_nodes__"] = []
        namespace["__envol_execution__"] = execution
    found: list[Node] = namespace.setdefault("__envol_nodes__", [])
    return found


@contextmanager
def _naming(function: Callable[..., Any]) -> Iterator[None]:
    try:
        yield
    except ProjectError as error:
        raise error.located(node=getattr(function, "__name__", None)) from None


def _choice(name: str, given: Any, allowed: tuple[str, ...]) -> Any:
    if given not in allowed:
        _refuse(name, given, f"write one of {', '.join(map(repr, allowed))}")
    return given


def _whole(name: str, given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        _refuse(name, given, "write a whole number, 0 or more")
    return int(given)


def _some_time(name: str, given: Any) -> Span:
    span = Span.parse(given)
    return span if span.count else _refuse(name, given, 'write for example "7d"')


def _names(name: str, given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not all(isinstance(one, str) and one for one in names):
        _refuse(name, given, "write the name of a column, or a list of names")
    return tuple(names)


def _spans(name: str, given: Any) -> dict[str, Span]:
    if not isinstance(given, Mapping | None):
        _refuse(name, given, 'name the input, as in {"flights": "7d"}')
    return {one: _some_time(name, span) for one, span in (given or {}).items()}


def _checks(contract: Any, empty: Any, on_broken: Any, max_broken: Any) -> dict[str, Any]:
    if max_broken is not None and not (_is_number(max_broken) and 0 <= max_broken <= 1):
        _refuse("max_broken", max_broken, "write a share of the rows, for example 0.05")
    return {
        "contract": contract,
        "empty": _choice("empty", empty, ("allow", "error")),
        "on_broken": _choice("on_broken", on_broken, ("quarantine", "fail")),
        "max_broken": max_broken,
    }


def _limits(isolated: Any, memory: Any, resources: Any, at_once: Any) -> dict[str, Any]:
    if at_once is not None and _whole("at_once", at_once) == 0:
        _refuse("at_once", at_once, "write a whole number, 1 or more")
    return {
        "isolated": bool(isolated),
        "memory": None if memory is None else _bytes("memory", memory),
        "resources": _names("resources", resources),
        "at_once": at_once,
    }


def _bytes(name: str, given: Any) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(MB|GB)", given) if isinstance(given, str) else None
    if not found:
        _refuse(name, given, 'write for example "500MB" or "2GB"')
    return int(float(found[1]) * {"MB": 1e6, "GB": 1e9}[found[2]])


def _attempts(retries: Any, backoff: Any, timeout: Any) -> dict[str, Any]:
    for name, given, allowed in (
        ("backoff", backoff, _is_number(backoff) and backoff >= 0),
        ("timeout", timeout, timeout is None or (_is_number(timeout) and timeout > 0)),
    ):
        if not allowed:
            _refuse(name, given, "write a number of seconds")
    return {"retries": _whole("retries", retries), "backoff": backoff, "timeout": timeout}


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and isfinite(given)


def _refuse(name: str, given: Any, remedy: str) -> NoReturn:
    raise ProjectError(f"{name}={given!r} is not possible", remedy=remedy)
