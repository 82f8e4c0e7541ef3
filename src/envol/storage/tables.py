"""The tables of the metadata database.

Instants are seconds since 1970 UTC: whole (BigInteger) where they bound a window or a cutoff, Double
where they tell when something happened. JSON is kept as text.

After a change here, add a migration beside the others in `migrations/versions` and raise `REVISION`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

REVISION = "0002"
"""The migration that these tables correspond to; revisions are numbered upwards."""

CHAMPION = "champion"
"""The alias of the version that answers."""
ACCEPTED = "accepted"
"""The alias of a version that is good enough to predict the windows of its time, but is not champion."""
PREDICTING = (CHAMPION, ACCEPTED)

metadata = MetaData()

definition = Table(
    "definition",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("node", Text, nullable=False),
    Column("code", Text, nullable=False, comment="hash of the code"),
    Column("parameters", Text, nullable=False, comment="hash of parameters and settings"),
    Column("contract", Text, nullable=False, comment="hash of the contract"),
    Column("reads", Text, nullable=False, comment="JSON: by input how much before the window is read"),
    Column("git_commit", Text),
    Column("git_dirty", Boolean),
    Column("first_used_at", Double, nullable=False),
    UniqueConstraint("node", "code", "parameters", "contract"),
)

materialization = Table(
    "materialization",
    metadata,
    Column("node", Text, primary_key=True),
    Column("window_start", BigInteger, primary_key=True),
    Column("window_end", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False, server_default="0"),
    Column("definition", Integer, nullable=False, comment="what it was made with"),
    Column("accepted", Integer, comment="the later definition that it was accepted for as it is"),
    Column("inputs", BigInteger, nullable=False, comment="hash of the versions that it was made from"),
    Column("version", BigInteger, nullable=False, comment="hash of the content"),
    Column("snapshot", BigInteger),
    Column("run", Text, nullable=False),
    Column("made_at", Double, nullable=False),
    sqlite_with_rowid=False,
)

acceptance = Table(
    "acceptance",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("node", Text, nullable=False),
    Column("definition", Integer, nullable=False, comment="the definition that windows were accepted for"),
    Column("windows", Integer, nullable=False),
    Column("first", BigInteger, nullable=False, comment="start of the first window"),
    Column("last", BigInteger, nullable=False, comment="end of the last window"),
    Column("at", Double, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_autoincrement=True,
)

lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("token", BigInteger, nullable=False, comment="raised by each new holder"),
    Column("beats", BigInteger, nullable=False, comment="raised by each heartbeat"),
    Column("machine", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process", Text, nullable=False, comment="tells the process from a later one of the same pid"),
    Column("held", Boolean, nullable=False),
    Column("since", Double, nullable=False),
)

control = Table(
    "control",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("by", Text, nullable=False),
)

run = Table(
    "run",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False, server_default="run", comment="run, due or backfill"),
    Column("number", Integer, nullable=False, server_default="0", index=True, comment="raised by each run"),
    Column("started_at", Double, nullable=False, index=True),
    Column("ended_at", Double),
    Column("state", Text, nullable=False, comment="running, done, failed, cancelled or crashed"),
    Column("planned", Integer, nullable=False, server_default="0"),
    Column("done", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("skipped", Integer, nullable=False, server_default="0"),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("git_commit", Text),
    Column("git_dirty", Boolean),
    Column("backfill", Text),
    Column("cancelled_by", Text),
)

backfill = Table(
    "backfill",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("by", Text, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("nodes", Text, nullable=False, comment="JSON: list of names"),
    Column("rerun", Boolean, nullable=False),
    Column("newest_first", Boolean, nullable=False),
    Column("state", Text, nullable=False, comment="waiting, running, done, failed or cancelled"),
    Column("ended_at", Double),
)

backfill_window = Table(
    "backfill_window",
    metadata,
    Column("backfill", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("window_start", BigInteger, primary_key=True),
    Column("state", Text, nullable=False, comment="waiting, done, failed or gone"),
    sqlite_with_rowid=False,
)

task = Table(
    "task",
    metadata,
    Column("run", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("window_start", BigInteger, primary_key=True),
    Column("window_end", BigInteger, primary_key=True),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("started_at", Double),
    Column("seconds", Double),
    Column("rows", BigInteger),
    Column("error", Text),
    Column("log", Text),
)

model_version = Table(
    "model_version",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("cutoff", BigInteger, nullable=False),
    Column("train_start", BigInteger, nullable=False),
    Column("train_end", BigInteger, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("lineage", Text, nullable=False),
    Column("made_at", Double, nullable=False),
    Column("run", Text, nullable=False),
)

alias = Table(
    "alias",
    metadata,
    Column("model", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("since", Double, nullable=False),
)

alias_event = Table(
    "alias_event",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("version", Integer),
    Column("previous", Integer),
    Column("at", Double, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("alias_event_model", "model", "alias"),
    sqlite_autoincrement=True,
)

quarantine_decision = Table(
    "quarantine_decision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("node", Text, nullable=False),
    Column("window_start", BigInteger, nullable=False),
    Column("row_hash", BigInteger, nullable=False, comment="hash of the row as it came"),
    Column("action", Text, nullable=False, comment="release, replace or drop"),
    Column("row", Text, comment="JSON: the row that replaces it"),
    Column("at", Double, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("settled", Boolean, nullable=False, comment="whether the tables are as it says"),
    Index("quarantine_decision_window", "node", "window_start"),
    sqlite_autoincrement=True,
)

schema_change = Table(
    "schema_change",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("node", Text, nullable=False),
    Column("window_start", BigInteger, nullable=False),
    Column("run", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("columns", Text, nullable=False, comment="JSON: by column its dtype before and after"),
    Column("refused", Boolean, nullable=False, comment="whether the window failed for it"),
    Index("schema_change_node", "node", "at"),
    sqlite_autoincrement=True,
)
