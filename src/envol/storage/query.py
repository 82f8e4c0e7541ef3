"""SQL for reading, and nothing else: a DuckDB instance of its own that can neither write nor look around."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import duckdb
import polars as pl

from envol.errors import UserError
from envol.storage.ground import Cursor, Ground, literal

_SAFE_FUNCTIONS = {
    "generate_series",
    "json_each",
    "json_tree",
    "range",
    "repeat",
    "unnest",
    "duckdb_columns",
    "duckdb_tables",
    "duckdb_views",
    "duckdb_functions",
    "duckdb_types",
    "ducklake_list_files",
    "ducklake_snapshots",
    "ducklake_table_changes",
    "ducklake_table_deletions",
    "ducklake_table_info",
    "ducklake_table_insertions",
    "pragma_table_info",
}
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?", re.IGNORECASE)
_AS_TEXT = {"INTERVAL", "BIT", "UUID", "TIME WITH TIME ZONE", "BIGNUM"}
_READ_ONLY = "write one SELECT over the project's tables"


class Reader:
    """Runs queries over a lake; each call on a cursor of its own."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._opening = threading.Lock()
        self._database: Cursor | None = None

    def query(self, query: str) -> pl.DataFrame:
        """The result of one SELECT (or SHOW, DESCRIBE, SUMMARIZE, EXPLAIN) over the tables.

        Raises:
            UserError: when it is wrong, or does anything but read the lake's tables.
        """
        cursor = self._instance().cursor()
        try:
            self._check(cursor, query)
            cursor.execute("USE lake")
            return _frame(cursor.sql(query))
        except duckdb.PermissionException:
            raise UserError("the query reads files outside the lake", remedy=_READ_ONLY) from None
        except pl.exceptions.PolarsError as error:
            raise UserError(f"the result has no frame: {error}", remedy="cast its columns") from None
        except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
            raise UserError(_plain(error), remedy="put the query right") from None
        finally:
            cursor.close()

    def close(self) -> None:
        """Let go of the instance."""
        with self._opening:
            database, self._database = self._database, None
        if database is not None:
            database.close()

    def _instance(self) -> Cursor:
        with self._opening:
            if self._database is None:
                database = self._ground.instance()
                self._ground.attach(database, read_only=True)
                for setting in (
                    f"allowed_directories = [{literal(self._ground.files.allowed)}]",
                    "enable_external_access = false",
                    "lock_configuration = true",
                ):
                    database.execute(f"SET GLOBAL {setting}")
                self._database = database
            return self._database

    def _check(self, cursor: Cursor, query: str) -> None:
        statements = duckdb.extract_statements(query)
        if len(statements) != 1:
            raise UserError(f"the query has {len(statements)} statements", remedy="write one SELECT")
        kind = statements[0].type
        if kind == duckdb.StatementType.EXPLAIN:
            return self._check(cursor, _EXPLAIN.sub("", query, count=1))
        if kind != duckdb.StatementType.SELECT:
            article = "an" if kind.name[0] in "AEIOU" else "a"
            raise UserError(
                f"queries only read, and this one is {article} {kind.name} statement", remedy=_READ_ONLY
            )
        tree = json.loads(cursor.execute("SELECT json_serialize_sql(?)", [query]).fetchall()[0][0])
        if tree["error"]:
            raise UserError("this kind of statement is not for queries", remedy=_READ_ONLY)
        for node in _nodes(tree):
            _check_node(node)
        return None


def _check_node(node: dict[str, Any]) -> None:
    # DuckDB's own lock lets SQLite's functions read any file, and paths lead out of an allowed folder.
    if node.get("type") == "TABLE_FUNCTION":
        name = (node.get("function") or {}).get("function_name", "")
        if name.lower() not in _SAFE_FUNCTIONS:
            raise UserError(f"the function {name} is not for queries", remedy=_READ_ONLY)
    if node.get("type") == "BASE_TABLE" and re.search(r"[/\\]|^\.\.?$", node.get("table_name") or ""):
        raise UserError(f"the query reads the file {node['table_name']!r}", remedy=_READ_ONLY)


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _frame(relation: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """The result as a frame: names told apart, whole numbers as Int64 where they fit, intervals as text."""
    kinds = [str(kind) for kind in relation.types]
    names = _distinct(relation.columns)
    if _AS_TEXT & set(kinds):
        columns = [
            f"CAST(#{n} AS VARCHAR)" if kind in _AS_TEXT else f"#{n}" for n, kind in enumerate(kinds, 1)
        ]
        relation = relation.project(", ".join(columns))
    table = relation.to_arrow_table().rename_columns(names)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    huge = [name for name, kind in zip(names, kinds, strict=True) if kind in ("HUGEINT", "UHUGEINT")]
    return frame.with_columns(_whole(frame[name]) for name in huge)


def _distinct(names: list[str]) -> list[str]:
    """The names, those that came before with a number behind."""
    found: list[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in found:
            candidate, number = f"{name}_{number}", number + 1
        found.append(candidate)
    return found


def _whole(series: pl.Series) -> pl.Series:
    """What `sum` makes of whole numbers (128 bits), as Int64 where all of them fit."""
    whole = series.cast(pl.Int64, strict=False)
    return whole if whole.null_count() == series.null_count() else series


def _plain(error: duckdb.Error) -> str:
    return str(error).split("\n\nStack Trace")[0].strip()
