"""Data sets, and jobs that import them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("kind", sa.String(16), nullable=False, server_default="train"))
    op.create_table(
        "datasets",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("job_id", sa.String(32)),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("source_bytes", sa.Integer, nullable=False),
        sa.Column("from_version", sa.Integer),
        sa.Column("corrections_of", sa.String(64)),
        sa.Column("submitted_by", sa.String(100)),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("ready_at", sa.Float),
        sa.Column("digest", sa.String(64)),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("summary", sa.JSON),
        sa.Column("deleted", sa.Boolean, nullable=False),
    )
