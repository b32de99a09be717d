"""Models that were taken out of service."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table("unloaded", sa.Column("model", sa.String(64), primary_key=True))
