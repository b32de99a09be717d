"""Leases without a clock, the key that submitted a job, the time that a job has run."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("lease_until")
        jobs.add_column(sa.Column("beat", sa.Integer, nullable=False, server_default="0"))
        jobs.add_column(sa.Column("seconds", sa.Float, nullable=False, server_default="0"))
        jobs.add_column(sa.Column("submitted_by", sa.String(100)))
        jobs.add_column(sa.Column("by_admin", sa.Boolean, nullable=False, server_default="0"))
