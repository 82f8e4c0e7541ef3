"""Connections to PostgreSQL, what its errors mean, and locks among all machines that use a database."""

from __future__ import annotations

import re
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING

from envol.errors import UserError
from envol.storage.place import Database
from envol.storage.waiting import OPENING, Server

if TYPE_CHECKING:
    import psycopg
    from psycopg.abc import Buffer
    from psycopg.adapt import Dumper

# A machine that is gone says nothing: half a minute of silence counts as a dropped connection, on both sides.
_SETTINGS = {
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# Codes of PostgreSQL's manual, appendix A. Class 08 and those below: the connection, and not the statement.
_AWAY_STATES = {"57P01", "57P02", "57P03", "57P05", "53300"}
_STATES = {
    "53100": ("the disk of its server is full", "free space on the disk of the database server"),
    "25006": (
        "it is read-only",
        "name the primary server in the url, or lift default_transaction_read_only",
    ),
    "58030": ("the disk of its server failed", "look at the log of the database server"),
    "XX001": ("it is damaged", "restore the database from a backup"),
    "XX002": ("an index of it is damaged", "run REINDEX in the database"),
}
_REFUSED = "42501"
# What a server says before it lets anybody in comes without a code.
_CONNECTING = "connection to server"
_MAY_PASS = ("starting up", "shutting down", "in recovery", "terminating connection", "too many", "slots")
_DENIED = (
    (r"password authentication failed", "the password is wrong", "password"),
    (r"no password supplied", "it asks for a password", "password"),
    (r"(database|role|user) .* does not exist", "there is no such database or user", "exist"),
    (r"pg_hba\.conf", "it does not let this user in from here", "access"),
    (r"permission denied for database", "the user may not connect to it", "access"),
    (r"certificate|\bssl\b", "the two do not agree on TLS", "tls"),
)
_REMEDIES = {
    "password": "set PGPASSWORD, or PGPASSFILE to a file with lines host:port:database:user:password",
    "exist": "make them with createuser and createdb, or mend `url` under [storage]",
    "access": "let the user in by pg_hba.conf of the server, or GRANT CONNECT ON DATABASE",
    "tls": "mend sslmode, sslrootcert or sslcert in the url",
}
UNREACHABLE = "start the database server, or mend `url` under [storage]"
"""What to do when the server does not come back."""
_GONE = (
    *("could not connect", "connection refused", "unable to connect", "could not translate host name"),
    *("failed to resolve", "timeout expired", "timed out", "server closed the connection", "is lost"),
    *("connection is closed", "no connection to the server", "connection reset", "connection to server"),
    *("could not receive data", "could not send data", "broken pipe", "terminating connection"),
    *("no route to host", "network is unreachable", "ssl syscall error", "connection was lost"),
    *("in recovery", "starting up", "shutting down"),
)


def driver() -> type[psycopg.Connection]:
    """psycopg's connection, imported now.

    Raises:
        UserError: psycopg is not installed.
    """
    try:
        import psycopg
    except ImportError:
        raise UserError(
            "the project's database is PostgreSQL, and its driver is not installed",
            remedy="pip install 'envol[postgres]'",
        ) from None
    return psycopg.Connection


def settings(database: Database) -> dict[str, str]:
    """libpq's parameters of the url, over those that notice a server that is gone.

    Raises:
        UserError: the url is none that libpq understands.
    """
    driver()
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        given = conninfo_to_dict(database.url)
    except psycopg.ProgrammingError as error:
        raise UserError(
            f"the url {database.url} is not understood: {_told(error)}",
            remedy="write postgresql://user@host:5432/database under [storage]",
        ) from None
    return {**_SETTINGS, "application_name": "envol", **{name: str(given[name]) for name in given}}


def connect(database: Database, *, autocommit: bool = False) -> psycopg.Connection:
    """A connection that sees the project's metadata first."""
    connection = driver().connect(**settings(database), autocommit=True)  # type: ignore[arg-type]
    try:
        connection.adapters.register_dumper(str, _text_dumper())
        connection.execute(f"SET search_path = {_quoted(database.schema)}".encode())
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


@cache
def _text_dumper() -> type[Dumper]:
    from psycopg.types.string import StrDumperUnknown

    class TextDumper(StrDumperUnknown):
        """PostgreSQL keeps no NUL in a text, which a log may hold."""

        def dump(self, obj: str) -> Buffer | None:
            return super().dump(without_nul(obj))

    return TextDumper


def without_nul(text: str) -> str:
    """The text as PostgreSQL keeps it: with the sign for what cannot be shown in place of NUL."""
    return text.replace("\0", "\ufffd")


def server(database: Database, opening: float = OPENING) -> Server:
    """The server of a database, to wait for."""
    return Server(f"the database {database}", away, UNREACHABLE, opening)


def away(error: Exception) -> str | None:
    """Why the server cannot be reached, read from an error of psycopg or SQLAlchemy; None when it can."""
    import psycopg

    original = getattr(error, "orig", error)
    if not isinstance(original, psycopg.OperationalError | psycopg.InterfaceError):
        return None
    state = original.sqlstate
    if state is not None:
        return _told(original) if state.startswith("08") or state in _AWAY_STATES else None
    return away_text(str(original))


def away_text(text: str) -> str | None:
    """The same, read from what libpq says."""
    lower = text.lower()
    if _denied(lower) or not any(words in lower for words in _GONE):
        return None
    return _told(text)


def explanation(error: Exception, database: Database) -> tuple[str, str]:
    """What an error means and what to do; empty for errors that are a mistake in the code."""
    original = getattr(error, "orig", error)
    state = getattr(original, "sqlstate", None)
    if state == _REFUSED:
        return _no_right(str(original), database)
    if state in _STATES:
        return _STATES[state]
    return text_explanation(str(original), database) if state is None else ("", "")


def text_explanation(text: str, database: Database) -> tuple[str, str]:
    """The same, read from what libpq says."""
    lower = text.lower()
    if "could not extend file" in lower or "no space left" in lower:
        return _STATES["53100"]
    if "read-only transaction" in lower:
        return _STATES["25006"]
    denied = _denied(lower)
    if denied is not None:
        problem, kind = denied
        return f"{problem} ({_told(text)})", _REMEDIES[kind]
    return _no_right(text, database) if "permission denied for" in lower else ("", "")


def drop_draft(draft: Database) -> None:
    """Remove what a move that was broken off has left behind."""
    with closing(connect(draft, autocommit=True)) as connection:
        for schema in (draft.schema, draft.lake_schema):
            connection.execute(f"DROP SCHEMA IF EXISTS {_quoted(schema)} CASCADE".encode())


def publish_draft(draft: Database, database: Database) -> None:
    """Give the schemas of a draft the names that they are found by, both at once."""
    with closing(connect(draft)) as connection, connection:
        for old, new in ((draft.schema, database.schema), (draft.lake_schema, database.lake_schema)):
            found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [old])
            if found.fetchone():
                connection.execute(f"ALTER SCHEMA {_quoted(old)} RENAME TO {_quoted(new)}".encode())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _denied(lower: str) -> tuple[str, str] | None:
    """What is wrong and the kind of remedy, where waiting does not help."""
    if _CONNECTING not in lower or any(words in lower for words in _MAY_PASS) or "ssl syscall" in lower:
        return None
    return next(((problem, kind) for words, problem, kind in _DENIED if re.search(words, lower)), None)


def _no_right(text: str, database: Database) -> tuple[str, str]:
    return (
        f"the user may not do that ({_told(text)})",
        f"let the user make schemas (GRANT CREATE ON DATABASE), or own {database.schema} and"
        f" {database.lake_schema}",
    )


def _told(error: object) -> str:
    """What matters of a message: the first line of the server's."""
    text = str(error)
    start = text.lower().rfind(_CONNECTING)
    return next(
        (line.strip() for line in text[max(start, 0) :].splitlines() if line.strip()), "no reason given"
    )
