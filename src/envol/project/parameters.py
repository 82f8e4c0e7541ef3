"""Parameters of nodes: from `[parameters]` of `envol.toml`, or the function's defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from envol.errors import ConfigError
from envol.project.config import FILE
from envol.project.names import nearest
from envol.project.nodes import REQUIRED, Argument, Node, Value


@dataclass(frozen=True)
class Range:
    """An assumption with its uncertainty, written `{ low = 90, likely = 150, high = 220 }`."""

    low: float
    likely: float
    high: float

    @classmethod
    def parse(cls, given: Any, place: str) -> Range | None:
        """The range that a table with low, likely or high stands for; None for any other value.

        Raises:
            ConfigError: when they are not all three, or not numbers in ascending order.
        """
        if not (isinstance(given, Mapping) and {"low", "likely", "high"} & set(given)):
            return None
        numbers: list[Any] = [given.get("low"), given.get("likely"), given.get("high")]
        if len(given) != 3 or not all(map(_is_number, numbers)) or numbers != sorted(numbers):
            raise ConfigError(
                f"{place}: a range has low, likely and high, numbers in ascending order",
                remedy="write for example { low = 90, likely = 150, high = 220 }",
            )
        return cls(*map(float, numbers))


@dataclass(frozen=True)
class Parameters:
    """What the function is called with, and the ranges that some of it was taken from."""

    values: Mapping[str, Any]
    ranges: Mapping[str, Range]


def resolve_parameters(
    nodes: Iterable[Node], section: Mapping[str, Any], place: Callable[..., str] = lambda *keys: FILE
) -> dict[str, Parameters]:
    """Parameters by node: `[parameters.NODE]` first, then `[parameters]`, then the default.

    Args:
        nodes: all nodes of the project.
        section: what `envol.toml` says under `[parameters]`.
        place: tells where the key stands that it is called with, such as "envol.toml:12".

    Raises:
        ConfigError: a required parameter without a value, or a value that no node asks for.
    """
    nodes = list(nodes)
    wanted = {node.name: [a for a in node.arguments if a.kind == "parameter"] for node in nodes}
    shared = {argument.name for arguments in wanted.values() for argument in arguments}
    for key, value in section.items():
        if isinstance(value, Mapping) and wanted.get(key):
            own_names = [argument.name for argument in wanted[key]]
            for name in value:
                _refuse_unknown(name, own_names, ("parameters", key), place)
        elif key not in shared:
            _refuse_unknown(
                key, [*(name for name in wanted if wanted[name]), *shared], ("parameters",), place
            )
    return {node.name: _of_node(node, wanted[node.name], section, place) for node in nodes}


def _of_node(
    node: Node, wanted: list[Argument], section: Mapping[str, Any], place: Callable[..., str]
) -> Parameters:
    given = section.get(node.name)
    own = given if isinstance(given, Mapping) else {}
    values: dict[str, Any] = {}
    ranges: dict[str, Range] = {}
    for argument in wanted:
        name = argument.name
        value = own.get(name, section.get(name, argument.default))
        if value is REQUIRED:
            raise ConfigError(
                f"the parameter {name!r} has no value",
                node=node.name,
                remedy=f"add {name} = ... under [parameters.{node.name}] in {FILE}, "
                "or a default to the function",
            )
        if isinstance(node, Value):
            keys = ("parameters", node.name, name) if name in own else ("parameters", name)
            if span := Range.parse(value, f"{place(*keys)}: {'.'.join(keys)}"):
                ranges[name] = span
                value = span.likely
        values[name] = value
    return Parameters(values, ranges)


def _refuse_unknown(key: str, known: list[str], above: tuple[str, ...], place: Callable[..., str]) -> None:
    if key not in known or len(above) == 1:
        raise ConfigError(
            f"{place(*above, key)}: [{'.'.join(above)}] has {key!r}, which no node asks for",
            remedy=f"write its parameters under [parameters.{key}]" if key in known else nearest(key, known),
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
