"""What versions have answered hour by hour, and whether that has drifted; notifications of no job."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    large = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    text = sa.String(64).with_variant(sa.String(), "postgresql")
    op.create_table(
        "answered",
        sa.Column("model", text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("hour", sa.Integer, primary_key=True),
        sa.Column("images", large, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
    )
    op.create_index("answered_by_hour", "answered", ["hour"])
    op.create_table(
        "drifted",
        sa.Column("model", text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("since", sa.Float, nullable=False),
    )
    with op.batch_alter_table("deliveries") as table:
        table.alter_column("job_id", existing_type=sa.String(32), nullable=True)
