"""Parameters of nodes: from `[parameters]` of `envol.toml`, or the function's defaults."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from envol.errors import ConfigError
from envol.project.nodes import REQUIRED, Node, Value


@dataclass(frozen=True)
class Range:
    """An assumption with its uncertainty, written `{ low = 90, likely = 150, high = 220 }`."""

    low: float
    likely: float
    high: float

    @classmethod
    def parse(cls, given: Any, place: str) -> Range | None:
        """The range that a table with low, likely and high stands for; None for any other value.

        Raises:
            ConfigError: when the three are not numbers in ascending order.
        """
        if not (isinstance(given, Mapping) and {"low", "likely", "high"} == set(given)):
            return None
        numbers = [given["low"], given["likely"], given["high"]]
        if not all(isinstance(n, int | float) for n in numbers) or numbers != sorted(numbers):
            raise ConfigError(f"{place}: low, likely and high must be numbers in ascending order")
        return cls(*map(float, numbers))


@dataclass(frozen=True)
class Parameters:
    """What the function is called with, and the ranges that some of it was taken from."""

    values: Mapping[str, Any]
    ranges: Mapping[str, Range]


def resolve_parameters(nodes: Iterable[Node], section: Mapping[str, Any]) -> dict[str, Parameters]:
    """Parameters by node: `[parameters.NODE]` first, then `[parameters]`, then the default.

    Raises:
        ConfigError: a required parameter without a value, or a value that no node asks for.
    """
    nodes = list(nodes)
    wanted = {node.name: [a for a in node.arguments if a.kind == "parameter"] for node in nodes}
    wanted = {name: arguments for name, arguments in wanted.items() if arguments}
    shared_names = {argument.name for arguments in wanted.values() for argument in arguments}
    shared = {}
    for key, value in section.items():
        if isinstance(value, Mapping) and key in wanted:
            _refuse_unknown(f"parameters.{key}", value, [a.name for a in wanted[key]])
        elif key in shared_names:
            shared[key] = value
        else:
            _refuse_unknown("parameters", [key], [*wanted, *shared_names])
    found = {}
    for node in nodes:
        own = section.get(node.name, {}) if node.name in wanted else {}
        values: dict[str, Any] = {}
        ranges: dict[str, Range] = {}
        for argument in wanted.get(node.name, ()):
            value = own.get(argument.name, shared.get(argument.name, argument.default))
            if value is REQUIRED:
                raise ConfigError(
                    f"the parameter {argument.name!r} has no value",
                    node=node.name,
                    remedy=f"add {argument.name} = ... under [parameters.{node.name}] in envol.toml, "
                    "or a default to the function",
                )
            span = Range.parse(value, f"parameters.{node.name}.{argument.name}")
            if span is not None and isinstance(node, Value):
                ranges[argument.name] = span
                value = span.likely
            values[argument.name] = value
        found[node.name] = Parameters(values, ranges)
    return found


def _refuse_unknown(place: str, keys: Iterable[str], known: list[str]) -> None:
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            raise ConfigError(
                f"envol.toml: [{place}] has {key!r}, which no node asks for",
                remedy=f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known) or 'none'}",
            )
