"""What the machines of supervisors have."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    with op.batch_alter_table("supervisors") as table:
        table.add_column(sa.Column("machine", sa.JSON))
