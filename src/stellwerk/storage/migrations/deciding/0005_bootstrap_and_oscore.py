"""Bootstrap configurations and sessions, fresh credentials, OSCORE contexts."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
RUNNING = "state='running'"


def upgrade() -> None:
    op.add_column("profile", sa.Column("bootstrap", sa.Text(), server_default="", nullable=False))
    op.add_column("credential", sa.Column("bootstrap_id", sa.Text()))
    op.add_column("credential", sa.Column("oscore", sa.LargeBinary()))
    op.add_column("credential", sa.Column("spent_ms", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("credential_change", sa.Column("only_bootstrap", sa.BigInteger(), server_default="0", nullable=False))
    op.create_index("credential_by_bootstrap", "credential", ["bootstrap_id"], unique=True)
    op.create_table(
        "fresh_credential",
        sa.Column("device_id", KEY, nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text()),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device_id"),
        sa.UniqueConstraint("identity"),
        sa.UniqueConstraint("key_id"),
    )
    op.create_table(
        "oscore_context",
        sa.Column("id", KEY, nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("is_fresh", sa.BigInteger(), nullable=False),
        sa.Column("is_bootstrap", sa.BigInteger(), nullable=False),
        sa.Column("sender_id", sa.LargeBinary(), nullable=False),
        sa.Column("id_context", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("ceiling", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("fingerprint"),
        sa.UniqueConstraint("sender_id", "is_bootstrap"),
        sa.UniqueConstraint("device_id", "is_fresh", "is_bootstrap"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "oscore_spent",
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("ceiling", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "bootstrap_session",
        sa.Column("id", KEY, nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=False),
        sa.Column("endpoint_name", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("steps", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("bootstrap_session_of_device", "bootstrap_session", ["device_id", "id"])
    op.create_index(
        "bootstrap_session_running",
        "bootstrap_session",
        ["state"],
        sqlite_where=sa.text(RUNNING),
        postgresql_where=sa.text(RUNNING),
    )
