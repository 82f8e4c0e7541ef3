"""Definitions apart from materializations, hashes as integers; leases, backfills, decisions on bad rows.

What tables were made from was hashed in another way before: tables made from others are made once more,
sources stay as they are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_DEFINED = ("node", "code", "parameters", "contract")


def upgrade() -> None:
    op.rename_table("materialization", "materialization_0001")
    _create_definition()
    _create_materialization()
    _copy_materializations(op.get_bind())
    op.drop_table("materialization_0001")
    _extend_run()
    _create_acceptance()
    _create_lease()
    _create_backfill()
    _create_decision()
    _create_schema_change()


def _create_definition() -> None:
    op.create_table(
        "definition",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False, comment="hash of the code"),
        sa.Column("parameters", sa.Text, nullable=False, comment="hash of parameters and settings"),
        sa.Column("contract", sa.Text, nullable=False, comment="hash of the contract"),
        sa.Column(
            "reads", sa.Text, nullable=False, comment="JSON: by input how much before the window is read"
        ),
        sa.Column("git_commit", sa.Text),
        sa.Column("git_dirty", sa.Boolean),
        sa.Column("first_used_at", sa.Double, nullable=False),
        sa.UniqueConstraint(*_DEFINED),
    )


def _create_materialization() -> None:
    op.create_table(
        "materialization",
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("window_start", sa.BigInteger, primary_key=True),
        sa.Column("window_end", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("quarantined", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("definition", sa.Integer, nullable=False, comment="what it was made with"),
        sa.Column("accepted", sa.Integer, comment="the later definition that it was accepted for as it is"),
        sa.Column(
            "inputs", sa.BigInteger, nullable=False, comment="hash of the versions that it was made from"
        ),
        sa.Column("version", sa.BigInteger, nullable=False, comment="hash of the content"),
        sa.Column("snapshot", sa.BigInteger),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("made_at", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )


def _copy_materializations(connection: sa.Connection) -> None:
    tables = sa.MetaData()
    tables.reflect(connection, only=["materialization_0001", "materialization", "definition"])
    old, new = tables.tables["materialization_0001"], tables.tables["materialization"]
    definition = tables.tables["definition"]
    defined = [old.c[name] for name in _DEFINED]
    connection.execute(
        sa.insert(definition).from_select(
            [*_DEFINED, "reads", "first_used_at"],
            sa.select(*defined, sa.literal("{}"), sa.func.min(old.c.made_at)).group_by(*defined),
        )
    )
    known = sa.select(definition.c.id, *(definition.c[name] for name in _DEFINED))
    ids = {tuple(row[1:]): row[0] for row in connection.execute(known)}
    kept = ("node", "window_start", "window_end", "rows", "quarantined", "snapshot", "run", "made_at")
    for rows in connection.execute(sa.select(old)).mappings().partitions(1000):
        connection.execute(
            sa.insert(new),
            [
                {name: row[name] for name in kept}
                | {
                    "definition": ids[tuple(row[name] for name in _DEFINED)],
                    "inputs": 0,
                    "version": _signed(row["version"]),
                }
                for row in rows
            ],
        )


def _signed(text: str) -> int:
    """The first 64 bits of a hash written in hex, as the database keeps them."""
    number = int(text[:16] or "0", 16)
    return number - (1 << 64) if number >= 1 << 63 else number


def _extend_run() -> None:
    with op.batch_alter_table("run") as run:
        run.add_column(
            sa.Column("kind", sa.Text, nullable=False, server_default="run", comment="run, due or backfill")
        )
        run.add_column(
            sa.Column("number", sa.Integer, nullable=False, server_default="0", comment="raised by each run")
        )
        run.add_column(sa.Column("git_commit", sa.Text))
        run.add_column(sa.Column("git_dirty", sa.Boolean))
        run.add_column(sa.Column("backfill", sa.Text))
        run.add_column(sa.Column("cancelled_by", sa.Text))
    op.create_index("ix_run_started_at", "run", ["started_at"])
    op.create_index("ix_run_number", "run", ["number"])


def _create_acceptance() -> None:
    op.create_table(
        "acceptance",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column(
            "definition",
            sa.Integer,
            nullable=False,
            comment="the definition that windows were accepted for",
        ),
        sa.Column("windows", sa.Integer, nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False, comment="start of the first window"),
        sa.Column("last", sa.BigInteger, nullable=False, comment="end of the last window"),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )


def _create_lease() -> None:
    op.create_table(
        "lease",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("token", sa.BigInteger, nullable=False, comment="raised by each new holder"),
        sa.Column("beats", sa.BigInteger, nullable=False, comment="raised by each heartbeat"),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column(
            "process", sa.Text, nullable=False, comment="tells the process from a later one of the same pid"
        ),
        sa.Column("held", sa.Boolean, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
    )
    op.create_table(
        "control",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
    )


def _create_backfill() -> None:
    op.create_table(
        "backfill",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("nodes", sa.Text, nullable=False, comment="JSON: list of names"),
        sa.Column("rerun", sa.Boolean, nullable=False),
        sa.Column("newest_first", sa.Boolean, nullable=False),
        sa.Column("state", sa.Text, nullable=False, comment="waiting, running, done, failed or cancelled"),
        sa.Column("ended_at", sa.Double),
    )
    op.create_table(
        "backfill_window",
        sa.Column("backfill", sa.Text, primary_key=True),
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("window_start", sa.BigInteger, primary_key=True),
        sa.Column("state", sa.Text, nullable=False, comment="waiting, done, failed or gone"),
        sqlite_with_rowid=False,
    )


def _create_decision() -> None:
    op.create_table(
        "quarantine_decision",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("window_start", sa.BigInteger, nullable=False),
        sa.Column("row_hash", sa.BigInteger, nullable=False, comment="hash of the row as it came"),
        sa.Column("action", sa.Text, nullable=False, comment="release, replace or drop"),
        sa.Column("row", sa.Text, comment="JSON: the row that replaces it"),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("settled", sa.Boolean, nullable=False, comment="whether the tables are as it says"),
        sqlite_autoincrement=True,
    )
    op.create_index("quarantine_decision_window", "quarantine_decision", ["node", "window_start"])


def _create_schema_change() -> None:
    op.create_table(
        "schema_change",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("window_start", sa.BigInteger, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("columns", sa.Text, nullable=False, comment="JSON: by column its dtype before and after"),
        sa.Column("refused", sa.Boolean, nullable=False, comment="whether the window failed for it"),
        sqlite_autoincrement=True,
    )
    op.create_index("schema_change_node", "schema_change", ["node", "at"])
