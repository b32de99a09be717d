"""Corrections of predictions: pictures with the label that they should have got.

POST /predict   -> a prediction that can be corrected for an hour (app.store.recent_predictions)
POST /feedback  -> a correction, kept until someone deletes it
POST /train     -> a job that learns the model's corrections; they name it in `used_by`
"""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from app.store import locks
from app.store.database import Database
from app.store.tables import feedback, predictions
from models.files import write_atomically

REMEMBER_SECONDS = 3600  # that a prediction can be corrected


@dataclass(frozen=True)
class Correction:
    """One row; `pixels` are uint8, row by row, as the model saw them."""

    id: str
    model: str
    version: int
    label: str
    predicted: str
    pixels: bytes
    created_at: float
    used_by: str | None

    @classmethod
    def from_row(cls, row: RowMapping) -> "Correction":
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Remembered:
    """A prediction that can still be corrected; `pixels` as of a correction."""

    id: str
    model: str
    version: int
    predicted: str
    pixels: bytes
    at: float


@dataclass(frozen=True)
class FeedbackUsage:
    """How much is kept: corrections, bytes of their pictures, and by model how many no job has learned."""

    count: int
    bytes: int
    waiting: Mapping[str, int]


class NoSuchPrediction(Exception):
    """The prediction was never made, or too long ago."""


class FeedbackFull(Exception):
    """The limit of corrections, or of their bytes, is reached."""


class Feedback:
    """The corrections in the table, at most `max_count` and `max_bytes` of pixels."""

    def __init__(self, database: Database, max_count: int, max_bytes: int) -> None:
        self.database = database
        self.max_count = max_count
        self.max_bytes = max_bytes

    # -- for clients -----------------------------------------------------------------------

    def answered_by(self, prediction: str) -> tuple[str, int]:
        """The model and version whose answer that was. Raises NoSuchPrediction."""
        with self.database.read() as connection:
            for table, condition in ((feedback, feedback.c.id == prediction), (predictions, _is(prediction))):
                row = connection.execute(select(table.c.model, table.c.version).where(condition)).first()
                if row is not None:
                    return row.model, row.version
        raise _no_prediction(prediction)

    def correct(self, prediction: str, label: str) -> Correction:
        """Keep a prediction's picture with its label; a later label replaces the earlier.

        Raises NoSuchPrediction or FeedbackFull.
        """
        label_and_time = {"label": label, "created_at": time.time(), "used_by": None}
        again = (
            update(feedback).where(feedback.c.id == prediction).values(**label_and_time).returning(*feedback.c)
        )
        with self.database.write(locks.FEEDBACK) as connection:
            row = connection.execute(again).mappings().first()
            if row is None:
                found = connection.execute(select(predictions).where(_is(prediction))).mappings().first()
                if found is None:
                    raise _no_prediction(prediction)
                self._make_sure_of_room(connection, len(found["pixels"]))
                kept = {name: found[name] for name in ("id", "model", "version", "predicted", "pixels")}
                added = insert(feedback).values(**kept, **label_and_time).returning(*feedback.c)
                row = connection.execute(added).mappings().one()
            return Correction.from_row(row)

    def _make_sure_of_room(self, connection: Connection, size: int) -> None:
        count, taken = connection.execute(_SIZE).one()
        if count >= self.max_count or taken + size > self.max_bytes:
            raise FeedbackFull(f"{count:,} corrections are kept, as many as are allowed")

    # -- for operators ---------------------------------------------------------------

    def usage(self) -> FeedbackUsage:
        """How much there is."""
        waiting = select(feedback.c.model, func.count().label("number")).where(feedback.c.used_by.is_(None))
        with self.database.read() as connection:
            count, taken = connection.execute(_SIZE).one()
            rows = connection.execute(waiting.group_by(feedback.c.model))
            return FeedbackUsage(count, int(taken), {row.model: row.number for row in rows})

    def newest(self, limit: int | None, model: str | None) -> list[Correction]:
        """Newest first; of one model or all."""
        query = select(feedback).order_by(feedback.c.created_at.desc(), feedback.c.number.desc()).limit(limit)
        return self._all(query if model is None else query.where(feedback.c.model == model))

    def uncorrected(self, limit: int, model: str | None) -> list[Remembered]:
        """Predictions that can be corrected and were not, newest first; of one model or all."""
        names = Remembered.__dataclass_fields__
        fresh = predictions.c.at > time.time() - REMEMBER_SECONDS
        query = select(*(predictions.c[name] for name in names)).where(
            fresh, predictions.c.id.not_in(select(feedback.c.id))
        )
        if model is not None:
            query = query.where(predictions.c.model == model)
        query = query.order_by(predictions.c.number.desc()).limit(limit)
        with self.database.read() as connection:
            return [Remembered(**row) for row in connection.execute(query).mappings()]

    def delete(self, correction: str, forget: bool = True) -> bool:
        """Delete one, and `forget` its prediction, too; whether there was such a correction."""
        with self.database.write(locks.FEEDBACK) as connection:
            if forget:
                connection.execute(delete(predictions).where(predictions.c.id == correction))
            return connection.execute(delete(feedback).where(feedback.c.id == correction)).rowcount == 1

    def clear(self) -> None:
        """Forget all corrections and predictions."""
        with self.database.write(locks.FEEDBACK) as connection:
            connection.execute(delete(predictions))
            connection.execute(delete(feedback))

    def forget_predictions(self) -> None:
        """Forget what could still be corrected."""
        with self.database.write(locks.FEEDBACK) as connection:
            connection.execute(delete(predictions))

    # -- for jobs ----------------------------------------------------------------------------------

    def write(
        self, path: Path, model: str, until: float, before: Path | None, weights: Mapping[int, Path]
    ) -> None:
        """The model's corrections made `until` then, oldest first, as `training.corrections` reads them.

        `before` is the weights file of the version that has served so far, `weights` are those of all versions.
        """
        condition = (feedback.c.model == model) & (feedback.c.created_at <= until)
        found = self._all(select(feedback).where(condition).order_by(feedback.c.number))
        body = {
            "labels": [correction.label for correction in found],
            "pixels": base64.b64encode(b"".join(correction.pixels for correction in found)).decode(),
            "sizes": [len(correction.pixels) for correction in found],
            "versions": [correction.version for correction in found],
            "weights": {
                number: str(weights[number].absolute())
                for number in sorted({correction.version for correction in found})
                if number in weights
            },
            "before": str(before.absolute()) if before else None,
        }
        write_atomically(path, json.dumps(body).encode(), mode=0o600)

    def _all(self, query: Any) -> list[Correction]:
        with self.database.read() as connection:
            return [Correction.from_row(row) for row in connection.execute(query).mappings()]


def mark_used(connection: Connection, job_id: str, model: str, classes: Sequence[str], until: float) -> None:
    """Note that a job has learned the model's corrections of these classes that were made `until` then."""
    condition = (feedback.c.model == model) & (feedback.c.created_at <= until) & feedback.c.label.in_(classes)
    connection.execute(update(feedback).where(condition).values(used_by=job_id))


def _no_prediction(prediction: str) -> NoSuchPrediction:
    return NoSuchPrediction(f"there is no prediction {prediction!r}, or it is too old")


_SIZE = select(func.count(), func.coalesce(func.sum(func.length(feedback.c.pixels)), 0))


def _is(prediction: str) -> Any:
    """The remembered prediction of that id, unless it is too old."""
    return (predictions.c.id == prediction) & (predictions.c.at > time.time() - REMEMBER_SECONDS)
