"""How the requests for a model are shared among its aliases, and which candidate is compared in the shadow."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    name = sa.String(64).with_variant(sa.String(), "postgresql")
    op.create_table(
        "traffic",
        sa.Column("model", name, primary_key=True),
        sa.Column("shares", sa.JSON, nullable=False),
        sa.Column("shadow", name),
        sa.Column("who", sa.String(100).with_variant(sa.String(), "postgresql"), nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
    )
