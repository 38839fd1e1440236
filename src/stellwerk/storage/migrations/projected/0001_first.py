"""The first schema of the projected database."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "current_value",
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "path"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "device_log",
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("tag", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "tag"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "device_model",
        sa.Column("device_id", KEY, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device_id"),
    )
    op.create_table(
        "device_state",
        sa.Column("device_id", KEY, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("registered_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("deregistered_ms", sa.BigInteger(), nullable=False),
        sa.Column("expired_ms", sa.BigInteger(), nullable=False),
        sa.Column("message_tag", sa.BigInteger(), nullable=False),
        sa.Column("message_oldest", sa.BigInteger(), nullable=False),
        sa.Column("message_bytes", sa.BigInteger(), nullable=False),
        sa.Column("message_ms", sa.BigInteger(), nullable=False),
        sa.Column("log_tag", sa.BigInteger(), nullable=False),
        sa.Column("log_oldest", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id"),
    )
    op.create_table(
        "projection",
        sa.Column("id", KEY, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("removals", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "received_message",
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("state_tag", sa.BigInteger(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("resource_name", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("content_size", sa.BigInteger(), nullable=False),
        sa.Column("content_info", sa.Text(), nullable=True),
        sa.Column("creator", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "state_tag"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "value_history",
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("newest_ms", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("oldest_ms", sa.BigInteger(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "newest_ms", "seq"),
        sqlite_with_rowid=False,
    )
