"""The tables of the service's database; `app.store.migrations` makes them.

SQLite looks at neither the length of a text nor the size of an integer; Postgres does. There, texts have no
length, and whatever counts rows or bytes has 64 bits.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

BigNumber = BigInteger().with_variant(Integer, "sqlite")


def Name(length: int) -> String:  # noqa: N802 (a type, as SQLAlchemy's)
    """A short text; its length is what it should be at most."""
    return String(length).with_variant(String(), "postgresql")


jobs = Table(
    "jobs",
    metadata,
    Column("number", BigNumber, primary_key=True, autoincrement=True),  # order of arrival
    Column("id", Name(32), nullable=False, unique=True),
    Column("status", Name(16), nullable=False),
    Column("model", Name(64), nullable=False),
    Column("config", JSON, nullable=False),
    Column("promote", Name(16), nullable=False),
    Column("idempotency_key", Name(255), unique=True),
    Column("request_digest", Name(64), nullable=False),
    Column("token", Integer, nullable=False, default=0),  # bumped by every claim: fences off the one before
    Column("attempts", Integer, nullable=False, default=0),
    Column("crashes", Integer, nullable=False, default=0),  # since the last complete epoch
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("progress", JSON),  # the last step
    Column("last", JSON),  # the last epoch
    Column("best", JSON),  # the epoch with the best accuracy
    Column("error", Text),
    Column("exit_code", BigNumber),
    Column("version", Integer),
    Column("decision", JSON),
    Column("beat", Integer, nullable=False, default=0, server_default="0"),  # the claimant's signs of life
    Column("seconds", Float, nullable=False, default=0, server_default="0"),  # that it has run, all attempts
    Column("submitted_by", Name(100)),  # whose key; none: before there was this column
    Column("by_admin", Boolean, nullable=False, default=False, server_default="0"),
    Column("feedback", JSON),  # corrections that it learns, and what that changed; null: it was not asked to
    Column("kind", Name(16), nullable=False, default="train", server_default="train"),  # or import, weights
    Column("notify", Text),  # URL that is told how it ended
    Column("priority", Integer, nullable=False, default=0, server_default="0"),  # larger ones are started first
    Column("name", Name(100)),  # what people write on it
    Column("notes", Text),
    Column("tags", JSON),
    Index("jobs_by_status", "status", "number"),
)

events = Table(
    "events",
    metadata,
    Column("id", BigNumber, primary_key=True, autoincrement=True),
    Column("job_id", Name(32), ForeignKey("jobs.id"), nullable=False),
    Column("kind", Name(16), nullable=False),  # status, step, epoch
    Column("data", JSON, nullable=False),
    Column("at", Float, nullable=False),
    Index("events_by_job", "job_id", "id"),
    sqlite_autoincrement=True,  # an id is never given twice, also after steps were pruned
)

deliveries = Table(
    "deliveries",  # of a job's end to the URL that it notifies, one for each end
    metadata,
    Column("number", BigNumber, primary_key=True, autoincrement=True),
    Column("id", Name(32), nullable=False, unique=True),
    Column("job_id", Name(32), ForeignKey("jobs.id")),  # none: not of a job (app.web.drift)
    Column("url", Text, nullable=False),
    Column("event", Name(16), nullable=False),  # the terminal status, or drift.begun
    Column("job", JSON, nullable=False),  # as it was then, or what else is told
    Column("attempts", Integer, nullable=False, default=0),  # begun; the claim of each
    Column("next_at", Float),  # none: delivered or given up
    Column("delivered_at", Float),
    Column("given_up_at", Float),
    Column("last_status", Integer),  # of HTTP; none: no answer
    Index("deliveries_by_job", "job_id", "number"),
    Index("deliveries_by_turn", "next_at"),
)

versions = Table(
    "versions",
    metadata,
    Column("model", Name(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("job_id", Name(32)),  # none: shipped with the service
    Column("sha256", Name(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("deleted", Boolean, nullable=False, default=False),  # numbers are never used twice
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", Name(64), primary_key=True),
    Column("alias", Name(64), primary_key=True),
    Column("version", Integer, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigNumber, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("who", Name(64), nullable=False),
    Column("action", Name(16), nullable=False),  # see app.store.audit
    Column("model", Name(64), nullable=False),
    Column("alias", Name(64)),
    Column("from_version", Integer),
    Column("to_version", Integer),
    Column("why", Text, nullable=False),
)

unloaded = Table(
    "unloaded",  # models that were taken out of service
    metadata,
    Column("model", Name(64), primary_key=True),
)

datasets = Table(
    "datasets",
    metadata,
    Column("name", Name(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("job_id", Name(32)),  # that imports it; none: it was found on disk
    Column("kind", Name(16), nullable=False),  # images, table
    Column("options", JSON, nullable=False),
    Column("source", Name(64), nullable=False),  # sha256 of the file that came
    Column("source_bytes", BigNumber, nullable=False),
    Column("from_version", Integer),  # whose file was read again; none: the file came with it
    Column("corrections_of", Name(64)),  # the model whose corrections it holds
    Column("submitted_by", Name(100)),
    Column("created_at", Float, nullable=False),
    Column("ready_at", Float),
    Column("digest", Name(64)),  # none: not imported (yet)
    Column("bytes", BigNumber, nullable=False, default=0),  # of what was imported
    Column("summary", JSON),  # how many pictures or rows, and classes
    Column("deleted", Boolean, nullable=False, default=False),  # numbers are never used twice
)

stored = Table(
    "stored",  # what is in the object store (app.store.folders)
    metadata,
    Column("prefix", Name(255), primary_key=True),  # of its keys
    Column("place", Name(255), unique=True),  # under MINIST_HOME; none: nobody's, to be removed
    Column("files", JSON, nullable=False),  # by name: bytes and sha256
    Column("since", Float, nullable=False),  # when the upload began; 0: it may not get a place any more
)

keys = Table(
    "keys",
    metadata,
    Column("id", Name(16), primary_key=True),
    Column("name", Name(64), nullable=False),
    Column("digest", Name(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
    UniqueConstraint("digest"),
)

answered = Table(
    "answered",  # by versions, hour by hour (app.store.answered)
    metadata,
    Column("model", Name(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),  # since the epoch; 0: the first answers
    Column("images", BigNumber, nullable=False),
    Column("counts", JSON, nullable=False),
    Index("answered_by_hour", "hour"),
)

drifted = Table(
    "drifted",  # versions whose answers have drifted
    metadata,
    Column("model", Name(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("since", Float, nullable=False),
)

traffic = Table(
    "traffic",  # of models whose requests are shared among aliases, or have a candidate (app.store.traffic)
    metadata,
    Column("model", Name(64), primary_key=True),
    Column("shares", JSON, nullable=False),  # percent by alias
    Column("shadow", Name(64)),  # alias of the candidate
    Column("who", Name(100), nullable=False),
    Column("since", Float, nullable=False),
    Column("ended_at", Float),
    Column("why", Text, nullable=False),
    Column("counts", JSON, nullable=False),  # what came of it
)

supervisors = Table(
    "supervisors",
    metadata,
    Column("name", Name(64), primary_key=True),
    Column("host", Name(255), nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("machine", JSON),  # what jobs may ask for (app.jobs.machine); none: it takes every job
)

rates = Table(
    "rates",  # how many requests callers have made: MINIST_RATE_LIMIT of several processes
    metadata,
    Column("key", Name(64), primary_key=True),  # of a caller and a limit
    Column("taken", BigNumber, nullable=False),
    Column("ends", Float, nullable=False),  # the window, on the server's clock
    Index("rates_by_end", "ends"),
)

predictions = Table(
    "predictions",  # that can still be corrected
    metadata,
    Column("number", BigNumber, primary_key=True, autoincrement=True),
    Column("id", Name(64), nullable=False, unique=True),
    Column("model", Name(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("predicted", Name(64), nullable=False),
    Column("pixels", LargeBinary, nullable=False),  # as the model saw them, row by row
    Column("at", Float, nullable=False),
    Index("predictions_by_age", "at"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("number", BigNumber, primary_key=True, autoincrement=True),
    Column("id", Name(64), nullable=False, unique=True),  # of the prediction
    Column("model", Name(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("label", Name(64), nullable=False),
    Column("predicted", Name(64), nullable=False),
    Column("pixels", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("used_by", Name(32)),  # the last job that learned it
    Index("feedback_by_model", "model", "created_at"),
)
