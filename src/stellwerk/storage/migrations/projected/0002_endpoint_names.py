"""What a device called itself when it last registered."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("device_state", sa.Column("endpoint_name", sa.Text(), server_default="", nullable=False))
