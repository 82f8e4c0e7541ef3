"""Decisions applied to the rows of a window: the same whether it is made again or a row was just decided."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from envol.errors import DataError
from envol.pipeline.batches import Divided
from envol.pipeline.predicting import MODEL_VERSION, predict
from envol.pipeline.quarantine.decisions import Action, Decision
from envol.pipeline.quarantine.identity import ID, row_hashes, row_id
from envol.pipeline.quarantine.texts import parsed
from envol.project.contracts import REASON, broken_rules, check
from envol.storage import Spool, described

if TYPE_CHECKING:
    from envol.project.nodes import Model
    from envol.registry import Package

EDITED = "edited: "
"""How the reason of a row begins whose replacement breaks the contract."""
_CANDIDATE = "envol_candidate"
Rows = pl.DataFrame | Spool


class Step(Protocol):
    """What a row goes through before it is in a table."""

    def schema(self, rows: Divided) -> Mapping[str, pl.DataType]:
        """The columns that an edited row has."""

    def passes(self, good: Rows, candidates: pl.DataFrame) -> tuple[pl.DataFrame, dict[int, str]]:
        """The rows that come of candidates beside the good rows, and by number why others do not pass."""


@dataclass
class Applied:
    """A window's rows after some decisions: ids of those that left quarantine, and why others did not."""

    rows: Divided
    done: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)


class ByContract:
    """The step of a source or a table: its contract, if it has one."""

    def __init__(self, contract: type[Any] | None) -> None:
        self._contract = contract

    def schema(self, rows: Divided) -> Mapping[str, pl.DataType]:
        return rows.good.schema

    def passes(self, good: Rows, candidates: pl.DataFrame) -> tuple[pl.DataFrame, dict[int, str]]:
        if self._contract is None:
            return candidates, {}
        if isinstance(good, Spool):  # of so large a window rules see the batch that a row is in
            return self._beside(candidates.clear(), candidates, refused=self._repeated(good, candidates))
        return self._beside(good, candidates, refused={})

    def _beside(
        self, good: pl.DataFrame, candidates: pl.DataFrame, refused: dict[int, str]
    ) -> tuple[pl.DataFrame, dict[int, str]]:
        good = fitted(good, self._contract)
        numbered = fitted(candidates, self._contract).with_row_index(_CANDIDATE)
        while True:
            numbered = numbered.filter(~pl.col(_CANDIDATE).is_in(list(refused)))
            broken = _checked(pl.concat([good, numbered], how="diagonal"), self._contract)
            ours = broken.filter(pl.col(_CANDIDATE).is_not_null())
            if ours.is_empty():
                break
            refused |= dict(ours.select(_CANDIDATE, REASON).iter_rows())
        if numbered.height and broken.height and broken.height > _checked(good, self._contract).height:
            # Rules over groups of rows may blame the others: none of these goes in then.
            told = f"with it other rows of the window break the contract: {broken_rules(broken)}"
            refused |= dict.fromkeys(numbered[_CANDIDATE], told)
            numbered = numbered.clear()
        return numbered.drop(_CANDIDATE), refused

    def _repeated(self, good: Spool, candidates: pl.DataFrame) -> dict[int, str]:
        assert self._contract is not None
        key = self._contract.primary_key()
        if not key:
            return {}
        hashes = candidates.select(key).hash_rows(seed=0)
        there = {
            one for frame in good.frames() for one in _common(frame.select(key).hash_rows(seed=0), hashes)
        }
        return {number: "primary_key" for number, one in enumerate(hashes) if one in there}


class ByModel:
    """The step of a model's predictions: a version of the model.

    Args:
        load: gives the package of a version, or of the one that predicts the window.
    """

    def __init__(self, model: Model, load: Callable[[int | None], Package]) -> None:
        self._model, self._load = model, load

    def schema(self, rows: Divided) -> Mapping[str, pl.DataType]:
        return pl.Schema({name: one for name, one in rows.broken.schema.items() if name not in (REASON, ID)})

    def passes(self, good: Rows, candidates: pl.DataFrame) -> tuple[pl.DataFrame, dict[int, str]]:
        assert isinstance(good, pl.DataFrame)
        version = None if good.is_empty() else good[MODEL_VERSION][0]
        return predict(self._model, self._load(version), candidates)


def decided(rows: Divided, window: str, decisions: Sequence[Decision], step: Step) -> Divided:
    """The rows of a window as its function returned them, after all that was decided about them.

    Args:
        rows: as they came; the broken ones have their ids.
        window: its key.
        decisions: those that hold, in the order they were made.
        step: what edited rows go through.
    """
    refused: dict[str, str] = {}
    for _, batch in groupby(decisions, key=lambda one: one.at):
        applied = apply(rows, {row_id(window, one.row_hash): one for one in batch}, step)
        rows, refused = applied.rows, refused | applied.refused
    told = pl.col(ID).replace_strict(refused, default=None, return_dtype=pl.String)
    return Divided(rows.good, rows.broken.with_columns(pl.coalesce(EDITED + told, REASON).alias(REASON)))


def apply(rows: Divided, decisions: Mapping[str, Decision], step: Step) -> Applied:
    """The rows after decisions of one moment, by id of the row.

    Raises:
        DataError: a released row does not fit into the table.
    """
    found = rows.broken.filter(pl.col(ID).is_in(list(decisions)))
    by_action: dict[Action, list[str]] = {action: [] for action in Action}
    for identity in found[ID]:
        by_action[decisions[identity].action].append(identity)
    released = found.filter(pl.col(ID).is_in(by_action[Action.RELEASE])).drop(REASON, ID)
    edited = by_action[Action.REPLACE]
    accepted, refused = _passed(rows, [json.loads(decisions[one].row or "{}") for one in edited], step)
    good = _with(_with(rows.good, released), accepted)
    told = {edited[number]: reason for number, reason in refused.items()}
    done = set(found[ID]) - set(told)
    return Applied(Divided(good, rows.broken.filter(~pl.col(ID).is_in(list(done)))), done, told)


def with_ids(broken: pl.DataFrame, window: str) -> pl.DataFrame:
    """Quarantined rows that were kept before rows had ids, with their ids."""
    if ID in broken.columns and not broken[ID].has_nulls():
        return broken
    ids = [row_id(window, number) for number in row_hashes(broken)]
    return broken.with_columns(pl.Series(ID, ids, pl.String))


def fitted(frame: pl.DataFrame, contract: type[Any] | None) -> pl.DataFrame:
    """Rows as the lake gives them, with the dtypes of the contract where these are kept as others.

    Raises:
        DataError: they cannot be cast, as the contract has changed since.
    """
    columns = {} if contract is None else contract.columns()
    casts = {
        name: column.dtype
        for name, column in columns.items()
        if name in frame.columns and not column.validate_dtype(frame.schema[name])
    }
    return _cast(frame, casts)


def _passed(
    rows: Divided, edited: Sequence[Mapping[str, Any]], step: Step
) -> tuple[pl.DataFrame, dict[int, str]]:
    if not edited:
        return rows.broken.clear().select([]), {}
    frame, problems = parsed(edited, step.schema(rows))
    numbers = [number for number in range(len(edited)) if number not in problems]
    accepted, refused = step.passes(rows.good, frame[numbers])
    return accepted, problems | {numbers[number]: reason for number, reason in refused.items()}


def _with(good: Rows, more: pl.DataFrame) -> Rows:
    """The good rows and some more, in the dtypes of the good ones."""
    if more.is_empty():
        return good
    schema = good.schema
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in more.columns]
    whole = _cast(more.with_columns(missing).select(schema.names()), dict(schema))
    if isinstance(good, Spool):
        good.append(whole)
        return good
    return pl.concat([good, whole])


def _cast(frame: pl.DataFrame, dtypes: Mapping[str, pl.DataType]) -> pl.DataFrame:
    for name, dtype in dtypes.items():
        try:
            frame = frame.with_columns(pl.col(name).cast(dtype))
        except pl.exceptions.PolarsError:
            raise DataError(
                f"column {name!r} of the quarantined rows is {described(frame.schema[name])},"
                f" and of the table {described(dtype)}",
                remedy="make the window again, so that both have the dtypes of now: envol run",
            ) from None
    return frame


def _checked(frame: pl.DataFrame, contract: type[Any] | None) -> pl.DataFrame:
    """The rows that break the contract."""
    assert contract is not None
    return check(frame, contract).broken


def _common(hashes: pl.Series, wanted: pl.Series) -> list[int]:
    return hashes.filter(hashes.is_in(wanted.to_list())).to_list()
