"""Calling a node's function: frames in as its annotations ask, a Polars frame out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from envol.errors import ProjectError
from envol.project.frames import to_kind, to_numbers, to_polars
from envol.project.nodes import Node, Value
from envol.project.usercode import user_code
from envol.project.windows import Window

_END = object()


def compute(
    node: Node, frames: Mapping[str, pl.DataFrame], window: Window, parameters: Mapping[str, Any]
) -> pl.DataFrame | Iterator[pl.DataFrame]:
    """Call the function of a source, table or value.

    Args:
        frames: the rows of each input by its name.
        window: the window that is made.
        parameters: values of the function's other parameters.

    Returns:
        The rows that it returned, in batches where it returned an iterator; of a value one column `value`.

    Raises:
        ProjectError: it returned something else than a frame (or numbers).
        Failure: it raised; the message tells what and where.
    """
    arguments: dict[str, Any] = {}
    for position, argument in enumerate(node.arguments):
        if argument.kind == "window":
            arguments[argument.name] = window
        elif isinstance(node, Value) and position == 0:
            kind = argument.kind if argument.is_input else "polars"
            arguments[argument.name] = to_kind(frames[node.inputs[0]], kind)
        elif argument.is_input:
            arguments[argument.name] = to_kind(frames[argument.name], argument.kind)
        else:
            arguments[argument.name] = parameters[argument.name]
    with user_code(node.name, node.name):
        result = node.function(**arguments)
        if isinstance(result, pl.LazyFrame):  # what is wrong in a lazy frame shows when it is collected
            result = result.collect()
    if isinstance(result, Iterator):
        return _batches(result, node)
    if isinstance(node, Value):
        return to_numbers(result, frames[node.inputs[0]].height, node.name).to_frame()
    return to_polars(result, node.name)


def _batches(results: Iterator[Any], node: Node) -> Iterator[pl.DataFrame]:
    number = 0
    while True:
        with user_code(node.name, node.name):
            result = next(results, _END)
            if isinstance(result, pl.LazyFrame):
                result = result.collect()
        if result is _END:
            break
        number += 1
        yield to_polars(result, node.name)
    if number == 0:
        raise ProjectError(
            "the function yielded no batch at all, so that the columns are not known",
            node=node.name,
            remedy="yield an empty frame with the columns where there are no rows",
        )
