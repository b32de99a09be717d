"""What Postgres looks at and SQLite does not: texts without a length, 64 bits for what counts rows or bytes."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

LARGE = ("number", "id", "source_bytes", "bytes", "exit_code")
NUMBERED = {"jobs": "number", "events": "id", "audit": "id", "predictions": "number", "feedback": "number"}


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    there = sa.inspect(op.get_bind())
    for table in set(there.get_table_names()) - {"alembic_version"}:
        for column in there.get_columns(table):
            name, kind = column["name"], column["type"]
            if isinstance(kind, sa.VARCHAR):
                op.alter_column(table, name, type_=sa.String())
            elif isinstance(kind, sa.INTEGER) and name in LARGE:
                op.alter_column(table, name, type_=sa.BigInteger())
    for table, number in NUMBERED.items():
        op.execute(f"ALTER SEQUENCE {table}_{number}_seq AS bigint")
