"""Keys of devices, accounts, API clients; what finds resources by ID and commands by deadline."""

from hashlib import blake2b

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = "step IN ('queued','sent','delivered')"


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("authority", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "api_client",
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("tenants", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("client_id"),
    )
    op.create_table(
        "credential",
        sa.Column("device_id", KEY, nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("modified_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device_id"),
        sa.UniqueConstraint("identity"),
    )
    op.create_index(
        "command_due", "command", ["expires_ms"], sqlite_where=sa.text(OPEN), postgresql_where=sa.text(OPEN)
    )
    op.create_index("sent_message_by_resource_id", "sent_message", ["resource_id"])
    op.create_index("tree_resource_by_id", "tree_resource", ["tenant_id", "resource_id"])
    op.add_column("device", sa.Column("resource_key", sa.Text(), server_default="", nullable=False))
    # A few seconds for a million devices.
    connection = op.get_bind()
    rows = connection.execute(
        sa.text("SELECT d.id, t.name, d.name, d.created_ms FROM device d JOIN tenant t ON t.id = d.tenant_id")
    ).fetchall()
    keys = [{"id": row[0], "key": _key(*row[1:])} for row in rows]
    if keys:
        connection.execute(sa.text("UPDATE device SET resource_key = :key WHERE id = :id"), keys)
    op.create_index("device_by_resource_key", "device", ["resource_key"])


def _key(tenant: str, name: str, created_ms: int) -> str:
    return blake2b("\0".join((tenant, name, str(created_ms))).encode(), digest_size=11).hexdigest()
