"""The graph orders the nodes and names every fault of their declaration."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from envol.errors import ProjectError
from envol.project import Project
from envol.project.nodes import Model, Outcomes, Predictions, Source
from envol.project.windows import Period, Span

Load = Callable[..., Project]


def source(name: str, every: str = "1d") -> str:
    return f'@source(every="{every}")\ndef {name}(window: Window) -> pl.DataFrame: ...\n'


def table(name: str, *inputs: str, settings: str = "") -> str:
    return f"@table({settings})\ndef {name}({', '.join(inputs)}) -> pl.DataFrame: ...\n"


def model(name: str, features: str, labels: str) -> str:
    return (
        f'@model(features="{features}", labels="{labels}", key="id", target="late", train="9d", every="7d")\n'
        f"def {name}(X: pl.DataFrame, y: pl.Series): ...\n"
    )


def value(name: str, of: str) -> str:
    return f'@value(model="{of}", unit="EUR")\ndef {name}(outcomes: pl.DataFrame) -> pl.Series: ...\n'


def refused(load: Load, text: str, *parts: str, node: str | None = None) -> None:
    with pytest.raises(ProjectError) as caught:
        _ = load(text).graph
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.node == node
    assert caught.value.remedy


WHOLE = (
    value("worth", "risk")
    + table("report", "risk_outcomes", "late_days")
    + table("late_days", "arrivals", settings='every="1w"')
    + model("risk", "departures", "arrivals")
    + table("departures", "flights", "weather", settings='every="1d", lookback={"weather": "6h"}')
    + source("flights")
    + source("weather", "1h")
    + source("arrivals")
).replace("@table()\ndef report", '@table(every="1w")\ndef report')


def test_inputs_come_before_what_reads_them(load: Load) -> None:
    graph = load(WHOLE).graph
    order = list(graph.nodes)
    assert set(order) == {
        "flights", "weather", "arrivals", "departures", "risk", "risk_predictions", "risk_outcomes",
        "late_days", "report", "worth",
    }  # fmt: skip
    for position, name in enumerate(order):
        assert set(graph.nodes[name].inputs) <= set(order[:position])


def test_a_model_brings_its_predictions_and_outcomes(load: Load) -> None:
    graph = load(WHOLE).graph
    assert isinstance(graph.nodes["risk_predictions"], Predictions)
    assert graph.nodes["risk_predictions"].inputs == ("risk", "departures")
    assert isinstance(graph.nodes["risk_outcomes"], Outcomes)
    assert graph.nodes["risk_outcomes"].inputs == ("risk_predictions", "arrivals")


def test_periods_are_those_of_the_inputs_unless_declared(load: Load) -> None:
    graph = load(WHOLE).graph
    assert {name: str(period) for name, period in graph.periods.items()} == {
        "flights": "1d", "weather": "1h", "arrivals": "1d", "departures": "1d", "late_days": "1w",
        "risk_predictions": "1d", "risk_outcomes": "1d", "worth": "1d", "report": "1w",
    }  # fmt: skip
    assert graph.period_of("weather") is Period.HOUR


def test_what_a_node_is_made_from(load: Load) -> None:
    graph = load(WHOLE).graph
    assert graph.upstream(["departures"]) == {"departures", "flights", "weather"}
    assert graph.upstream(["late_days", "flights"]) == {"late_days", "arrivals", "flights"}
    assert graph.upstream(["worth"]) == set(graph.nodes) - {"late_days", "report"}
    assert graph.upstream([]) == set()


def test_an_unknown_node_upstream(load: Load) -> None:
    with pytest.raises(ProjectError, match=r"no node is called 'flihgts'\n.*did you mean 'flights'\?"):
        load(WHOLE).graph.upstream(["flihgts"])


def test_readers_kinds_and_lookback(load: Load) -> None:
    graph = load(WHOLE).graph
    assert {node.name for node in graph.readers("arrivals")} == {"risk", "risk_outcomes", "late_days"}
    assert {node.name for node in graph.of(Source)} == {"flights", "weather", "arrivals"}
    assert [node.name for node in graph.of(Model)] == ["risk"]
    assert graph.lookback(graph.nodes["departures"], "weather") == Span(6, "h")
    assert graph.lookback(graph.nodes["departures"], "flights") is None
    assert graph.lookback(graph.nodes["risk"], "departures") is None


def test_a_cycle_is_told_as_a_path(load: Load) -> None:
    text = source("s") + table("a", "c") + table("b", "a", "s") + table("c", "b")
    with pytest.raises(ProjectError, match="these nodes need each other: ") as caught:
        _ = load(text).graph
    path = caught.value.message.partition(": ")[2].split(" -> ")
    assert path[0] == path[-1] and set(path) == {"a", "b", "c"}
    assert "".join(path[:-1]) in "abcabc"


def test_a_node_that_reads_itself(load: Load) -> None:
    refused(load, table("a", "a"), "a -> a")


def test_a_model_that_reads_its_own_predictions(load: Load) -> None:
    text = source("l") + table("f", "risk_predictions", "l") + model("risk", "f", "l")
    refused(load, text, "these nodes need each other", "risk_predictions")


@pytest.mark.parametrize(
    ("text", "node", "problem", "remedy"),
    [
        (
            source("flights") + table("late", "flihgts"),
            "late",
            "unknown input 'flihgts'",
            "did you mean 'flights'?",
        ),
        (source("flights") + table("late", "xyz"), "late", "unknown input 'xyz'", "known here: flights"),
        (model("risk", "f", "l"), "risk", "unknown input 'f'", "known here"),
        (
            source("flights") + table("late", "flights", settings='lookback={"flihgts": "1d"}'),
            "late",
            "lookback names 'flihgts', which is no input",
            "did you mean 'flights'?",
        ),
        (source("s") + value("worth", "risc"), "worth", "no model is called 'risc'", "known here: none"),
        (source("risk") + value("worth", "risk"), "worth", "no model is called 'risk'", "none"),
        (
            source("f") + model("risk", "f", "f") + value("worth", "rsk"),
            "worth",
            "no model is called 'rsk'",
            "did you mean 'risk'?",
        ),
        (
            source("f") + model("risk", "f", "f") + table("t", "risk"),
            "t",
            "'risk' is a model, not a table",
            "read risk_predictions or risk_outcomes",
        ),
        (
            source("f") + model("a", "f", "f") + model("b", "a", "f"),
            "b",
            "'a' is a model, not a table",
            "read a_predictions",
        ),
        (table("t", "limit: int"), "t", "a table is made from at least one other", "@source"),
        (
            "@source()\ndef s(window, flights: pl.DataFrame): ...",
            "s",
            "a source reads no tables, but has the parameter 'flights'",
            "@table",
        ),
        (source("flights_quarantine"), "flights_quarantine", "end in _quarantine", "rename it"),
        (
            source("f") + model("risk", "f", "f") + source("risk_outcomes"),
            "risk_outcomes",
            "the model 'risk' brings a table of this name",
            "rename",
        ),
        (source("flights") + source("Flights"), "Flights", "'flights' differs from it only in", "rename"),
        (
            "@source(contract=int)\ndef s(window): ...",
            "s",
            "contract=<class 'int'> is not a dataframely Schema",
            "class Flight(dy.Schema)",
        ),
    ],
)
def test_a_fault_of_the_declaration(load: Load, text: str, node: str, problem: str, remedy: str) -> None:
    refused(load, text, problem, remedy, node=node)


def test_one_name_in_one_module(load: Load) -> None:
    refused(load, source("s") + source("s"), "two nodes of the module nodes have this name", node="s")


def test_one_name_in_two_modules(load: Load) -> None:
    with pytest.raises(ProjectError, match="one and two both declare this name") as caught:
        _ = load({"one.py": source("s"), "two.py": source("s")}).graph
    assert caught.value.node == "s"


def test_inputs_of_different_periods_need_a_word(load: Load) -> None:
    text = source("a", "1h") + source("b", "1d") + table("t", "a", "b")
    refused(load, text, "different windows (a 1h, b 1d)", '@table(every="1d")', node="t")


NESTING = [
    ("1h", "1h"), ("1h", "1d"), ("1h", "1w"), ("1h", "1mo"), ("1d", "1d"), ("1d", "1w"), ("1d", "1mo"),
    ("1w", "1w"), ("1mo", "1mo"),
]  # fmt: skip


@pytest.mark.parametrize("outer", list(Period), ids=str)
@pytest.mark.parametrize("inner", list(Period), ids=str)
def test_windows_are_made_of_whole_ones_only(load: Load, inner: Period, outer: Period) -> None:
    text = source("s", str(inner)) + table("t", "s", settings=f'every="{outer}"')
    if (str(inner), str(outer)) in NESTING:
        assert load(text).graph.period_of("t") is outer
    else:
        refused(load, text, f"windows of {outer} cannot be made of whole windows of s", node="t")


def test_outcomes_need_labels_that_nest(load: Load) -> None:
    text = source("f") + source("l", "1w") + model("risk", "f", "l")
    refused(load, text, "cannot be made of whole windows of l, which has 1w", node="risk_outcomes")
    assert load(source("f") + source("l", "1h") + model("risk", "f", "l")).graph.periods["risk_outcomes"]
