"""Decorators declare nodes, refuse what cannot be, and leave functions as plain as they were."""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from envol.errors import ProjectError
from envol.project import Project
from envol.project.nodes import Model, Node, Source, Table, Value
from envol.project.windows import Period, Span

Load = Callable[..., Project]
HEADER = """
from __future__ import annotations
from typing import TYPE_CHECKING, Annotated, Any, Optional
import dataframely as dy
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from envol import Window, model, source, table, value
if TYPE_CHECKING:
    from somewhere import Frame
class Flight(dy.Schema):
    id = dy.Int64()
"""
RISK = '@model(features="f", labels="l", key="id", target="late", train="60d", every="7d"{})\n'


def run(text: str, *, strings: bool = True) -> dict[str, Any]:
    """The names that a module of this text defines; `strings`: its annotations are texts."""
    header = HEADER if strings else HEADER.replace("from __future__ import annotations", "")
    namespace: dict[str, Any] = {"__name__": "flights"}
    exec(compile(header + text, "flights.py", "exec", dont_inherit=True), namespace)
    return namespace


def node_of(text: str, **settings: Any) -> Node:
    [node] = run(text, **settings)["__envol_nodes__"]
    assert isinstance(node, Node)
    return node


def refused(text: str, *parts: str, node: str | None = "f") -> None:
    with pytest.raises(ProjectError) as caught:
        run(text)
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.node == node
    assert caught.value.remedy


def test_a_source() -> None:
    node = node_of(
        '@source(every="1h", delay="2d", empty="error", on_broken="fail", retries=3, backoff=0, timeout=9)\n'
        'def f(window: Window) -> pl.DataFrame:\n    """All flights."""'
    )
    assert isinstance(node, Source)
    assert (node.every, node.delay, node.empty, node.on_broken) == (
        Period.HOUR,
        Span(2, "d"),
        "error",
        "fail",
    )
    assert (node.retries, node.backoff, node.timeout, node.doc) == (3, 0, 9, "All flights.")
    assert (node.name, node.kind, node.module, node.inputs) == ("f", "source", "flights", ())


def test_a_table() -> None:
    node = node_of('@table(every="1mo", lookback={"a": "1w"})\ndef f(a, b: pl.LazyFrame, c=1): ...')
    assert isinstance(node, Table)
    assert (node.every, node.lookback, node.inputs) == (Period.MONTH, {"a": Span(1, "w")}, ("a", "b"))


def test_a_model() -> None:
    node = node_of(RISK.format(', exclude="a", folds=2') + "def f(X, y, depth=3): ...")
    assert isinstance(node, Model)
    assert (node.inputs, node.key, node.exclude, node.test) == (("f", "l"), ("id",), ("a",), Span(7, "d"))
    assert (node.predictions, node.outcomes) == ("f_predictions", "f_outcomes")
    assert [argument.name for argument in node.arguments if argument.kind == "parameter"] == ["depth"]


def test_a_value() -> None:
    node = node_of('@value(model="risk", unit="EUR")\ndef f(outcomes, saving: float): ...')
    assert isinstance(node, Value)
    assert (node.inputs, node.unit) == (("risk_outcomes",), "EUR")


def test_functions_stay_plain() -> None:
    namespace = run(
        "@source()\ndef a(window: Window) -> pl.DataFrame: return pl.DataFrame({'x': [1]})\n"
        "@table()\ndef f(a: pl.DataFrame, by: int = 2) -> pl.DataFrame:\n"
        "    return a.with_columns(pl.col('x') * by)"
    )
    assert isinstance(namespace["f"], types.FunctionType)
    assert namespace["f"](namespace["a"](None)).item() == 2
    assert namespace["f"](pl.DataFrame({"x": [3]}), by=5).item() == 15


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        ("pl.DataFrame", "polars"),
        ("pl.LazyFrame", "lazy"),
        ("pd.DataFrame", "pandas"),
        ("pa.Table", "arrow"),
        ("dy.DataFrame[Flight]", "polars"),
        ("dy.LazyFrame[Flight]", "lazy"),
        ("pl.DataFrame | None", "polars"),
        ("Optional[pd.DataFrame]", "pandas"),
        ('Annotated[pa.Table, "rows"]', "arrow"),
        ('"pl.LazyFrame"', "lazy"),
        ("Window", "window"),
        ("int", "parameter"),
        ("list[int]", "parameter"),
        ("int | str | None", "parameter"),
        ("Any", "parameter"),
    ],
)
@pytest.mark.parametrize("strings", [True, False], ids=["text", "type"])
def test_the_annotation_says_what_a_parameter_receives(annotation: str, kind: str, strings: bool) -> None:
    node = node_of(f"@table()\ndef f(given: {annotation}): ...", strings=strings)
    assert node.arguments[0].kind == kind


def test_without_annotation_a_table_reads_and_a_source_asks() -> None:
    table = node_of("@table()\ndef f(a, window, limit=3): ...")
    assert [argument.kind for argument in table.arguments] == ["polars", "window", "parameter"]
    source = node_of("@source()\ndef f(window, limit): ...")
    assert [argument.kind for argument in source.arguments] == ["window", "parameter"]


@pytest.mark.parametrize(
    ("X", "y", "kinds"),
    [
        ("pd.DataFrame", "pd.Series", ["pandas", "pandas"]),
        ("np.ndarray", "np.ndarray", ["numpy", "numpy"]),
        ("pa.Table", "pa.ChunkedArray", ["arrow", "arrow"]),
        ("pl.DataFrame", "pl.Series", ["polars", "polars"]),
    ],
)
def test_a_model_receives_rows_and_a_column(X: str, y: str, kinds: list[str]) -> None:
    node = node_of(RISK.format("") + f"def f(X: {X}, y: {y}): ...")
    assert [argument.kind for argument in node.arguments] == kinds


def test_a_default_is_kept() -> None:
    node = node_of("@table()\ndef f(a, *, low: int, high: int = 3): ...")
    assert [a.default for a in node.arguments[2:]] == [3]


def test_a_type_that_is_imported_for_checking_only() -> None:
    refused(
        "@table()\ndef f(given: Frame): ...",
        "node f: the annotation 'Frame' of 'given' cannot be resolved",
        "not under TYPE_CHECKING",
    )


@pytest.mark.parametrize(
    ("decorator", "problem"),
    [
        ('@source(every="2d")', "'2d' is not a period"),
        ('@source(every="")', "'' is not a period"),
        ('@source(delay="soon")', "'soon' is not a span"),
        ('@source(empty="never")', "empty='never'"),
        ('@source(on_broken="ignore")', "on_broken='ignore'"),
        ("@source(retries=-1)", "retries=-1"),
        ("@source(retries=1.5)", "retries=1.5"),
        ("@source(retries=True)", "retries=True"),
        ("@source(backoff=-1)", "backoff=-1"),
        ("@source(timeout=0)", "timeout=0"),
        ('@source(timeout="1m")', "timeout='1m'"),
        ('@source(timeout=float("nan"))', "timeout=nan"),
        ('@table(every="1y")', "'1y' is not a period"),
        ('@table(lookback="1d")', "lookback='1d'"),
        ('@table(lookback={"a": "1"})', "'1' is not a span"),
        ('@table(on_broken="x")', "on_broken='x'"),
    ],
)
def test_settings_that_cannot_be(decorator: str, problem: str) -> None:
    refused(f"{decorator}\ndef f(window: Window): ...", "node f: ", problem)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("key=[]", "key=[]"),
        ("key=1", "key=1"),
        ("key=['']", "key=['']"),
        ("exclude=[1]", "exclude=[1]"),
        ("train='all'", "'all' is not a span"),
        ("train='0d'", "train='0d'"),
        ("every='0d'", "every='0d'"),
        ("test='0d'", "test='0d'"),
        ("test=''", "'' is not a span"),
        ("folds=-1", "folds=-1"),
        ("seed='x'", "seed='x'"),
        ("task='ranking'", "task='ranking'"),
        ("promote='never'", "promote='never'"),
        ("unknown_categories='x'", "unknown_categories='x'"),
        ("timeout=-3", "timeout=-3"),
    ],
)
def test_settings_of_a_model_that_cannot_be(setting: str, problem: str) -> None:
    settings = {"features": "'a'", "labels": "'b'", "key": "'id'", "target": "'late'", "train": "'9d'"}
    name, _, given = setting.partition("=")
    settings = {**settings, "every": "'7d'", name: given}
    told = ", ".join(f"{key}={text}" for key, text in settings.items())
    refused(f"@model({told})\ndef f(X, y): ...", "node f: ", problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("@table()\ndef f(*tables): ...", "the parameter *tables has no name to look up"),
        ("@table()\ndef f(**tables): ...", "the parameter **tables has no name to look up"),
        ("@table()\ndef f(a, /): ...", "the parameter 'a' cannot be given by its name"),
        ("@table()\ndef f(a: pl.Series): ...", "'a' is annotated Series, but an input is a whole table"),
        ("@table()\ndef f(a: np.ndarray): ...", "'a' is annotated ndarray"),
        (RISK.format("") + "def f(X): ...", "a model is a function of X and y"),
        (RISK.format("") + "def f(X: int, y): ...", "'X' stands where a model receives X and y"),
        (RISK.format("") + "def f(X, window: Window): ...", "'window' stands where a model receives X and y"),
        (RISK.format("") + "def f(X, y, window: Window): ...", "a model is fitted on many windows"),
        (RISK.format("") + "def f(X, y, a: pl.DataFrame): ...", "a model reads no other tables"),
        ("@value(model='m', unit='EUR')\ndef f(): ...", "a value is a function of the outcomes"),
        ("@value(model='m', unit='EUR')\ndef f(saving: float): ...", "where a value receives the outcomes"),
        ("@value(model='m', unit='EUR')\ndef f(o, a: pd.DataFrame): ...", "a value reads no other tables"),
        (
            "@source()\ndef f(): ...\n@table()\ndef f(a): ...",
            "two nodes of the module flights have this name",
        ),
        ("@source()\nclass f: ...", "@source is for functions with a name"),
    ],
)
def test_functions_that_cannot_be(text: str, problem: str) -> None:
    refused(text, problem)


def test_a_function_without_a_name() -> None:
    refused("source()(lambda window: None)", "@source is for functions with a name", node="<lambda>")


def test_a_function_may_be_wrapped() -> None:
    node = node_of("import functools\n@table()\n@functools.cache\ndef f(a: pl.LazyFrame): ...")
    assert (node.name, node.inputs, node.arguments[0].kind) == ("f", ("a",), "lazy")


def test_a_wrapper_of_another_module_leaves_the_node_where_the_function_is() -> None:
    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*given: Any) -> Any:
            return function(*given)

        return wrapper

    namespace: dict[str, Any] = {"__name__": "flights", "timed": timed}
    exec(HEADER + "@table()\n@timed\ndef f(a: pl.LazyFrame): ...", namespace)
    assert [node.name for node in namespace["__envol_nodes__"]] == ["f"]
    assert "__envol_nodes__" not in globals()


def test_a_cell_of_a_notebook_may_be_run_again() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for every in ("1d", "1h"):
        exec(HEADER + f'@source(every="{every}")\ndef f(window): ...', namespace)
    assert namespace["f"].__envol_node__.every is Period.HOUR


def test_a_module_may_be_loaded_again(tmp_path: Path) -> None:
    (tmp_path / "reloaded.py").write_text(HEADER + "@source()\ndef f(window): ...")
    sys.path.insert(0, str(tmp_path))
    module = importlib.import_module("reloaded")
    (tmp_path / "reloaded.py").write_text(HEADER + "\n\n@source(retries=2)\ndef f(window): ...")
    importlib.reload(module)
    assert [node.retries for node in module.__envol_nodes__] == [2]
