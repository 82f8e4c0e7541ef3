"""A contract suggested from what a table holds, as Python code."""

from __future__ import annotations

import json
import keyword
import re
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any

import polars as pl

from envol.errors import NotFoundError, UserError
from envol.pipeline.checking.table_figures import PATTERNS, UUID, Seen, columns_seen, extent
from envol.project.names import nearest
from envol.storage import described

if TYPE_CHECKING:
    from envol.storage import Lake

ENOUGH_ROWS = 20
"""With fewer values nothing is said of their range or pattern."""
MARGIN = Decimal("0.25")
"""Of the range seen, on either side."""
LINE = 100
_LONGEST_CODE = 12
_USED = ("dy", "Decimal")
"""Names that the code itself uses."""


def suggest(lake: Lake, table: str, start: datetime | None = None, end: datetime | None = None) -> str:
    """Python code of a dataframely `Schema` that the stored rows meet.

    Args:
        table: its name.
        start, end: only rows of windows that start in [start, end).

    Raises:
        NotFoundError: there is no such table, naming the nearest.
        DataError: there are no rows.
    """
    names = [info.name for info in lake.tables()]
    if table not in names:
        raise NotFoundError(f"the lake has no table {table!r}", remedy=nearest(table, names))
    found = columns_seen(lake, table, start, end)
    return _code(table, found, extent(lake, table, start, end))


def _code(table: str, found: list[Seen], looked_at: str) -> str:
    key = _key(found)
    names: dict[str, str] = {}
    lines = [f"class {_class_name(table)}(dy.Schema):", f"    # seen: {looked_at}; bounds leave a margin"]
    for seen in found:
        name = _attribute(seen.name, names)
        column = _column(seen, key=seen is key, alias=None if name == seen.name else seen.name)
        line, told = f"    {name} = {column}", f"# seen: {seen.told()}"
        lines += [f"{line}  {told}"] if len(line) + len(told) + 2 <= LINE else [f"    {told}", line]
    body = "\n".join(lines)
    imports = ["from decimal import Decimal\n"] if " Decimal(" in body or "=Decimal(" in body else []
    return "\n".join([*imports, "import dataframely as dy", "", "", body, ""])


def _column(seen: Seen, *, key: bool, alias: str | None) -> str:
    kind, arguments = _declared(seen.dtype)
    if key:
        arguments.append("primary_key=True")
    elif seen.nullable:
        arguments.append("nullable=True")
    if seen.dtype.is_float():
        arguments += ["allow_nan=True"] * bool(seen.figures["nan"])
        arguments += ["allow_inf=True"] * bool(seen.figures["up"] or seen.figures["down"])
    if seen.dtype.is_numeric() and not seen.unique and seen.values:
        arguments += _bounds(seen)
    if seen.dtype == pl.String and seen.values:
        arguments += _text_rules(seen)
    if alias is not None:
        arguments.append(f"alias={_literal(alias)}")
    return f"dy.{kind}({', '.join(arguments)})"


def _bounds(seen: Seen) -> list[str]:
    """Limits beyond what was seen by a margin, on round numbers; none where a value beyond them was seen."""
    low, high, dtype = seen.figures["low"], seen.figures["high"], seen.dtype
    if low is None or high is None:
        return []
    low, high = Decimal(str(low)), Decimal(str(high))
    span = high - low if seen.values >= ENOUGH_ROWS else Decimal(0)
    step = Decimal(1).scaleb(span.adjusted()) if span else Decimal(1)
    step = max(step, Decimal(1)) if dtype.is_integer() else step
    least = ((low - span * MARGIN) / step).to_integral_value(ROUND_FLOOR) * step if span else None
    most = ((high + span * MARGIN) / step).to_integral_value(ROUND_CEILING) * step if span else None
    if low >= 0:
        least = max(least or Decimal(0), Decimal(0))
    elif high <= 0:
        most = min(most or Decimal(0), Decimal(0))
    smallest, largest = _limits(dtype)
    arguments = []
    if least is not None and smallest < least <= low and not seen.figures.get("down"):
        arguments.append(f"min={_number(least, dtype)}")
    above = seen.figures.get("up") or seen.figures.get("nan")
    if most is not None and high <= most < largest and not above:
        arguments.append(f"max={_number(most, dtype)}")
    return arguments


def _limits(dtype: pl.DataType) -> tuple[Decimal, Decimal]:
    """Bounds between these say something about a column of the dtype."""
    if isinstance(dtype, pl.Decimal):
        largest = Decimal(10) ** ((dtype.precision or 38) - dtype.scale)
        return -largest, largest
    if dtype.is_float():
        largest = Decimal("3e38") if dtype == pl.Float32 else Decimal("1e308")
        return -largest, largest
    signed = dtype.is_signed_integer()
    bits = int(str(dtype).lstrip("UInt"))
    return Decimal(-(2 ** (bits - 1)) if signed else -1), Decimal(2 ** (bits - signed) - 1)


def _number(value: Decimal, dtype: pl.DataType) -> str:
    whole = value == value.to_integral_value() and abs(value) < 10**15
    text = str(int(value)) if whole or dtype.is_integer() else repr(float(value))
    return f'Decimal("{value.normalize():f}")' if isinstance(dtype, pl.Decimal) else text


def _text_rules(seen: Seen) -> list[str]:
    if seen.texts is not None:
        return [f'check={{"known": lambda text: text.is_in({_literal(seen.texts)})}}']
    *codes, uuid = (seen.figures[f"pattern {number}"] for number in range(len(PATTERNS) + 1))
    shortest, longest = seen.figures["shortest"], seen.figures["longest"]
    if seen.values >= ENOUGH_ROWS and uuid:
        return [f"regex={_literal(f'^{UUID}$')}"]
    if seen.values >= ENOUGH_ROWS and shortest == longest <= _LONGEST_CODE and any(codes):
        pattern = PATTERNS[codes.index(True)]
        return [f"regex={_literal(f'^{pattern}{{{shortest}}}$')}"]
    return ["min_length=1"] if shortest >= 1 else []


def _key(found: list[Seen]) -> Seen | None:
    """The column that tells rows apart: one whose values are all different, named like a key if there is."""
    unique = [seen for seen in found if seen.unique]
    named = [seen for seen in unique if seen.name.lower().endswith(("id", "key", "uuid"))]
    others = [seen for seen in unique if seen.rows >= ENOUGH_ROWS]
    return next(iter([*named, *others]), None)


def _declared(dtype: pl.DataType) -> tuple[str, list[str]]:
    """Class of a column of the dtype, and the arguments that say which it is exactly."""
    if isinstance(dtype, pl.Datetime | pl.Duration):
        unit = [] if dtype.time_unit == "us" else [f"time_unit={_literal(dtype.time_unit)}"]
        zone = getattr(dtype, "time_zone", None)
        return type(dtype).__name__, [*unit, *([f"time_zone={_literal(zone)}"] if zone else [])]
    if isinstance(dtype, pl.Decimal):
        return "Decimal", [str(dtype.precision), str(dtype.scale)]
    if isinstance(dtype, pl.List):
        return "List", [_inner(dtype.inner)]
    if isinstance(dtype, pl.Struct):
        parts = (f"{_literal(one.name)}: {_inner(one.dtype)}" for one in dtype.fields)
        return "Struct", ["{" + ", ".join(parts) + "}"]
    if dtype == pl.Boolean:
        return "Bool", []
    if dtype.is_numeric() or dtype in (pl.String, pl.Binary, pl.Date, pl.Time):
        return str(dtype), []
    raise UserError(f"no contract can say {described(dtype)}", remedy="leave that column out of the table")


def _inner(dtype: Any) -> str:
    kind, arguments = _declared(dtype)
    anything = ["allow_nan=True", "allow_inf=True"] if dtype.is_float() else []
    return f"dy.{kind}({', '.join([*arguments, 'nullable=True', *anything])})"


def _attribute(column: str, names: dict[str, str]) -> str:
    """A name that a class can have for a column; its own where that can be."""
    import dataframely as dy

    taken = column in _USED or hasattr(dy.Schema, column)
    free = column.isidentifier() and not keyword.iskeyword(column) and not column.startswith("_")
    name = column if free and not taken else f"column_{len(names) + 1}"
    while name in names:
        name += "_"
    names[name] = column
    return name


def _class_name(table: str) -> str:
    words = re.split(r"[\W_]+", table)
    name = "".join(word[:1].upper() + word[1:] for word in words)
    return name if name.isidentifier() else f"Rows{name}"


def _literal(value: Any) -> str:
    """Texts as Python code, in double quotes."""
    return json.dumps(value, ensure_ascii=False)
