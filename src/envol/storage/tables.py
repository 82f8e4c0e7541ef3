"""The tables of the metadata database.

Instants are seconds since 1970 UTC: whole (BigInteger) where they bound a window or a cutoff, Double
where they tell when something happened. JSON is kept as text.

After a change here, add a migration beside the others in `migrations/versions` and raise `REVISION`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, Table, Text

REVISION = "0001"
"""The migration that these tables correspond to; revisions are numbered upwards."""

CHAMPION = "champion"
"""The alias of the version that answers."""
ACCEPTED = "accepted"
"""The alias of a version that is good enough to predict the windows of its time, but is not champion."""
PREDICTING = (CHAMPION, ACCEPTED)

metadata = MetaData()

materialization = Table(
    "materialization",
    metadata,
    Column("node", Text, primary_key=True),
    Column("window_start", BigInteger, primary_key=True),
    Column("window_end", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False, server_default="0"),
    Column("code", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("contract", Text, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("version", Text, nullable=False, comment="digest of the content"),
    Column("snapshot", BigInteger),
    Column("run", Text, nullable=False),
    Column("made_at", Double, nullable=False),
    Column("lineage", Text, nullable=False, server_default="{}"),
)

run = Table(
    "run",
    metadata,
    Column("id", Text, primary_key=True),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("state", Text, nullable=False, comment="running, done, failed, cancelled or crashed"),
    Column("planned", Integer, nullable=False, server_default="0"),
    Column("done", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("skipped", Integer, nullable=False, server_default="0"),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
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
