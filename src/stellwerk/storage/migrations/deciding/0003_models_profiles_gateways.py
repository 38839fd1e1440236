"""Imported object models, profiles, object lists of profile IDs; priorities; end devices behind gateways."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

BEHIND = "gateway_id > 0"


def upgrade() -> None:
    op.create_table(
        "profile",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("modified_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"]),
        sa.PrimaryKeyConstraint("tenant_id", "name"),
    )
    op.create_table(
        "object_model",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("source", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("modified_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "object_id", "version"),
    )
    op.create_table(
        "object_list",
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("profile_id"),
    )
    op.add_column("command", sa.Column("priority", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("device", sa.Column("gateway_id", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("device", sa.Column("gateway_prefix", sa.Text(), server_default="", nullable=False))
    op.create_index(
        "device_of_gateway", "device", ["gateway_id"], sqlite_where=sa.text(BEHIND), postgresql_where=sa.text(BEHIND)
    )
