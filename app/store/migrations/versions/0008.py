"""Whom a job notifies of its end."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def name(length: int) -> sa.types.TypeEngine[str]:
    """A short text, which has no length in Postgres."""
    return sa.String(length).with_variant(sa.String(), "postgresql")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("notify", sa.Text))
    op.create_table(
        "deliveries",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", name(32), nullable=False, unique=True),
        sa.Column("job_id", name(32), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("event", name(16), nullable=False),
        sa.Column("job", sa.JSON, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Float),
        sa.Column("delivered_at", sa.Float),
        sa.Column("given_up_at", sa.Float),
        sa.Column("last_status", sa.Integer),
    )
    op.create_index("deliveries_by_job", "deliveries", ["job_id", "number"])
    op.create_index("deliveries_by_turn", "deliveries", ["next_at"])
