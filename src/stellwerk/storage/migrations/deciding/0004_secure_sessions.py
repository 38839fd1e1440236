"""Secure sessions and what they have read; credentials of every kind."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

BY_ADDRESS = "address_key IS NOT NULL"
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "secure_session",
        sa.Column("id", KEY, nullable=False),
        sa.Column("session_id", sa.LargeBinary(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("address_key", sa.BigInteger()),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("ceiling", sa.BigInteger(), nullable=False),
        sa.Column("read_mark", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("modified_ms", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("session_id"),
    )
    op.create_index("secure_session_of_device", "secure_session", ["device_id"])
    op.create_index(
        "secure_session_by_address",
        "secure_session",
        ["address_key"],
        sqlite_where=sa.text(BY_ADDRESS),
        postgresql_where=sa.text(BY_ADDRESS),
    )
    op.create_table(
        "session_mark",
        sa.Column("id", KEY, nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "session_read",
        sa.Column("session_id", sa.LargeBinary(), nullable=False),
        sa.Column("read_mark", sa.BigInteger(), nullable=False),
        sa.Column("heard_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["secure_session.session_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("session_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "credential_change",
        sa.Column("id", KEY, nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device_id"),
        sqlite_autoincrement=True,
    )
    op.add_column("credential", sa.Column("kind", sa.Text(), server_default="psk", nullable=False))
    op.add_column("credential", sa.Column("endpoint", sa.Text(), server_default="", nullable=False))
    op.add_column("credential", sa.Column("bootstrap", sa.LargeBinary()))
    op.add_column("credential", sa.Column("key_id", sa.Text()))
    op.create_index("credential_by_key", "credential", ["key_id"], unique=True)
