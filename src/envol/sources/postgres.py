"""PostgreSQL by ADBC: a cursor of the server's, read in batches that arrive as Arrow."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import polars as pl

from envol.errors import DataError, EnvolError, Failure, ProjectError
from envol.sources.extras import needed
from envol.sources.placeholders import Filler
from envol.sources.schema import from_arrow

if TYPE_CHECKING:
    from sqlalchemy import URL

    from envol.sources.databases import Query

# A server that does not answer, or has gone without a word, is noticed within a minute.
_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
# All of the rows are wanted: the plan should not be the one that has the first of them soonest.
_SESSION = (
    "set transaction read only",
    "set local timezone to 'UTC'",
    "set local cursor_tuple_fraction to 1",
)
_CURSOR = "envol"
# By SQLSTATE: syntax, names and rights, what is not supported, a value of the wrong form, a write.
_WRONG_QUERY = ("42", "0A", "22P02", "25006")
_DATA = "22"


def read(address: URL, query: Query) -> Generator[pl.DataFrame]:
    """The rows of the query, at most `query.rows` in each frame; at least one frame."""
    driver = needed("adbc_driver_postgresql.dbapi", "postgres")
    where = f"PostgreSQL at {address.host or 'this machine'}"
    patience = {name: value for name, value in _PATIENCE.items() if name not in address.query}
    url = address.set(drivername="postgresql").update_query_dict(patience)
    with _connected(driver, url, where, query.filler) as connection, _told(where, query.filler):
        for statement in _SESSION:
            _run(connection, statement)
        _run(connection, f"declare {_CURSOR} no scroll cursor for {query.text}", query.values)
        while True:
            table = _run(connection, f"fetch forward {query.rows} from {_CURSOR}")
            yield from_arrow(table, query.overrides, where)
            if table.num_rows < query.rows:
                return


@contextmanager
def _connected(driver: Any, url: URL, where: str, filler: Filler) -> Iterator[Any]:
    try:
        connection = driver.connect(url.render_as_string(hide_password=False))
    except driver.Error as error:
        raise Failure(
            f"{where} cannot be reached: {filler.hide(_complaint(str(error)))}",
            remedy="check that it runs, and the URL's host, port, database, user and password",
        ) from None
    try:
        yield connection
    finally:
        with suppress(driver.Error):  # there is nothing to lose with a connection that only reads
            connection.close()


@contextmanager
def _told(where: str, filler: Filler) -> Iterator[None]:
    """Say what the database complains of: the query, or something that another try may mend."""
    import pyarrow as pa

    try:
        yield
    except EnvolError:
        raise
    except pa.ArrowException as error:
        raise ProjectError(
            f"{where}: the rows cannot be read: {filler.hide(error)}",
            remedy="convert columns of unusual types in the query, for example cast(c as text)",
        ) from None
    except Exception as error:
        state = getattr(error, "sqlstate", None)
        if state is None and not type(error).__module__.startswith("adbc_driver"):
            raise
        message = filler.hide(_complaint(str(error)))
        if (state or "").startswith(_WRONG_QUERY):
            raise ProjectError(f"{where} refuses the query: {message}", remedy="correct the query") from None
        if (state or "").startswith(_DATA):
            raise DataError(
                f"{where}: the query fails: {message}", remedy="correct the query, or the data"
            ) from None
        raise Failure(
            f"{where} broke off: {message}", remedy="run again, or give the source `retries`"
        ) from None


def _complaint(message: str) -> str:
    """What the server says, without what the driver puts around it."""
    said = re.search(r"(?:ERROR|FATAL|PANIC): +(.+?)(?:\nLINE|\. SQLSTATE|\Z)", message, re.DOTALL)
    return said[1].strip() if said else message


def _run(connection: Any, statement: str, values: tuple[Any, ...] = ()) -> Any:
    with connection.cursor() as cursor:
        # The other way of fetching, COPY, takes neither parameters nor cursors.
        cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
        cursor.execute(statement, values or None)
        return cursor.fetch_arrow_table()
