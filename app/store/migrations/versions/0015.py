"""What people write on jobs: a name, notes, tags."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("name", sa.String(100).with_variant(sa.String(), "postgresql")))
        table.add_column(sa.Column("notes", sa.Text))
        table.add_column(sa.Column("tags", sa.JSON))
