"""Rate limits that processes share."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "rates",
        sa.Column("key", sa.String(64).with_variant(sa.String(), "postgresql"), primary_key=True),
        sa.Column("taken", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("ends", sa.Float, nullable=False),
    )
    op.create_index("rates_by_end", "rates", ["ends"])
