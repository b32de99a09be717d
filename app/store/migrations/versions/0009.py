"""What is in the object store."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def name(length: int) -> sa.types.TypeEngine[str]:
    """A short text, which has no length in Postgres."""
    return sa.String(length).with_variant(sa.String(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "stored",
        sa.Column("prefix", name(255), primary_key=True),
        sa.Column("place", name(255), unique=True),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
    )
