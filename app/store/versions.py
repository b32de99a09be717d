"""Versions of models on disk, the aliases that choose among them, and the audit list.

    MINIST_HOME/models/<model>/<version>/    weights, card, what its run left; never changed, appears by rename

`production` is the alias that a bare model name means. Whatever happens to an alias stands in the audit list.
"""

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.engine import Connection

import models
from app.jobs.queue import Job, Queue
from app.store.database import Database
from app.store.tables import aliases, audit, versions

PRODUCTION = "production"
SHIPPED = Path(models.__file__).parent / "weights"


class NoSuchVersion(Exception):
    """The model has no such version (any more), or there is no such model."""


class VersionInUse(Exception):
    """An alias points at the version."""


class NothingBefore(Exception):
    """`production` has pointed at nothing else that still exists."""


@dataclass(frozen=True)
class Version:
    """One row, and where its files lie."""

    model: str
    version: int
    job_id: str | None
    sha256: str
    created_at: float
    directory: Path

    @property
    def weights(self) -> Path:
        return self.directory / f"{self.model}.pth"

    def card(self) -> Mapping[str, Any]:
        card: Mapping[str, Any] = json.loads(self.weights.with_suffix(".json").read_text())
        return card


@dataclass(frozen=True)
class Snapshot:
    """All aliases and versions at one moment; `change` grows with every change."""

    change: int
    aliases: Mapping[tuple[str, str], int]
    versions: Mapping[tuple[str, int], Version]


class Versions:
    """Versions and aliases of all models."""

    def __init__(self, database: Database, home: Path) -> None:
        self.database = database
        self.directory = home / "models"

    # -- reading -----------------------------------------------------------------------------------

    def change(self) -> int:
        """A number that grows whenever a version or an alias changes."""
        with self.database.read() as connection:
            return connection.scalar(select(func.coalesce(func.max(audit.c.id), 0))) or 0

    def snapshot(self) -> Snapshot:
        with self.database.read() as connection:
            change = connection.scalar(select(func.coalesce(func.max(audit.c.id), 0))) or 0
            pointed = {(row.model, row.alias): row.version for row in connection.execute(select(aliases))}
            rows = connection.execute(select(versions).where(versions.c.deleted.is_(False))).mappings()
            found = [self._version(row) for row in rows]
        return Snapshot(change, pointed, {(version.model, version.version): version for version in found})

    def audit(self, model: str) -> list[Mapping[str, Any]]:
        """Who moved what, when, why; newest first."""
        query = select(audit).where(audit.c.model == model).order_by(audit.c.id.desc())
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _version(self, row: RowMapping) -> Version:
        directory = self.directory / row["model"] / str(row["version"])
        return Version(row["model"], row["version"], row["job_id"], row["sha256"], row["created_at"], directory)

    # -- publishing --------------------------------------------------------------------------------

    def publish_shipped(self, directory: Path = SHIPPED) -> None:
        """Make the weights that came with the service versions, if they are not.

        On a new installation they are version 1. Weights of a newer release become the next version;
        `production` follows if it pointed at shipped ones.
        """
        for card_path in sorted(directory.glob("*.json")):
            model, digest = card_path.stem, json.loads(card_path.read_text())["sha256"]
            with self.database.read() as connection:
                known = select(versions.c.version).where(versions.c.model == model, versions.c.sha256 == digest)
                if connection.execute(known).first() is not None:
                    continue
            staged = self.stage(model, [card_path, card_path.with_suffix(".pth")], f"shipped-{os.getpid()}")
            with self.database.write() as connection:
                if connection.execute(known).first() is not None:  # another process was quicker
                    shutil.rmtree(staged)
                    continue
                shipped_before = select(versions.c.version).where(
                    versions.c.model == model, versions.c.job_id.is_(None)
                )
                current = _current(connection, model)
                follows = current is None or current in connection.scalars(shipped_before).all()
                version = self._add(connection, model, staged, digest, None)
                _note(connection, "minist", "publish", model, None, None, version, "shipped with this release")
                if follows:
                    _point(
                        connection, "minist", "promote", model, PRODUCTION, version, "shipped with this release"
                    )

    def publish(self, queue: Queue, job: Job, staged: Path) -> int:
        """Make a job's result the next version and the job a success, in one transaction.

        `production` moves as the job's `promote` says; the decision is recorded with both figures.
        Raises ClaimLost where the job is not the claimant's any more: then nothing has changed.
        """
        card = json.loads((staged / f"{job.model}.json").read_text())
        with self.database.write() as connection:
            current = _current(connection, job.model)
            version = self._next(connection, job.model)
            decision = self._decide(job, card, current)
            queue.finish(connection, job, version, decision, card)
            assert self._add(connection, job.model, staged, card["sha256"], job.id) == version
            why = f"job {job.id}: {decision['reason']}"
            _note(
                connection,
                f"job {job.id}",
                "publish",
                job.model,
                None,
                None,
                version,
                f"job {job.id} succeeded",
            )
            if decision["promoted"]:
                _point(connection, f"job {job.id}", "promote", job.model, PRODUCTION, version, why)
            else:
                _note(connection, f"job {job.id}", "keep", job.model, PRODUCTION, current, current, why)
        return version

    def stage(self, model: str, files: list[Path], name: str) -> Path:
        """Copies of files in a folder beside the versions, ready to be renamed."""
        staged = self.directory / model / f".staged-{name}"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, staged / file.name)
        return staged

    def _next(self, connection: Connection, model: str) -> int:
        newest = connection.scalar(select(func.max(versions.c.version)).where(versions.c.model == model))
        return (newest or 0) + 1

    def _add(self, connection: Connection, model: str, staged: Path, digest: str, job_id: str | None) -> int:
        """Rename the staged folder to the next version and write its row. Nobody else is writing meanwhile."""
        version = self._next(connection, model)
        directory = self.directory / model / str(version)
        shutil.rmtree(directory, ignore_errors=True)  # of a publication that died before its commit
        _flush(staged)
        staged.rename(directory)
        _flush(directory.parent)
        row = {"model": model, "version": version, "job_id": job_id, "sha256": digest}
        connection.execute(insert(versions).values(**row, created_at=time.time(), deleted=False))
        return version

    def _decide(self, job: Job, card: Mapping[str, Any], current: int | None) -> dict[str, Any]:
        """Whether `production` moves to the new version, and why."""
        accuracy = card["metrics"]["test"]["accuracy"]
        decision: dict[str, Any] = {"rule": job.promote, "accuracy": accuracy, "current_version": current}
        if job.promote == "never":
            return {**decision, "promoted": False, "reason": "the job asked never to promote"}
        if current is None:
            return {**decision, "promoted": True, "reason": "it is the model's first version"}
        path = self.directory / job.model / str(current) / f"{job.model}.json"
        now = json.loads(path.read_text())
        decision["current_accuracy"] = now["metrics"].get("test", {}).get("accuracy")
        if job.promote == "always":
            return {**decision, "promoted": True, "reason": "the job asked always to promote"}
        if now["dataset"] != card["dataset"]:
            reason = "the current version was measured on other data"
            return {**decision, "promoted": False, "reason": reason}
        better = accuracy >= decision["current_accuracy"]
        sign = ">=" if better else "<"
        reason = f"test accuracy {accuracy:.4f} {sign} {decision['current_accuracy']:.4f} of version {current}"
        return {**decision, "promoted": better, "reason": reason}

    # -- aliases -----------------------------------------------------------------------------------

    def move(self, model: str, alias: str, version: int, who: str, why: str) -> None:
        """Point an alias at a version. Raises NoSuchVersion."""
        with self.database.write() as connection:
            if not self._exists(connection, model, version):
                raise _no_version(model, version)
            _point(connection, who, "move", model, alias, version, why)

    def rollback(self, model: str, who: str, why: str) -> int:
        """Point `production` at what it pointed at before its present version. Raises NothingBefore."""
        with self.database.write() as connection:
            current = _current(connection, model)
            if current is None:
                raise NoSuchVersion(f"there is no model {model!r}")
            query = (
                select(audit.c.from_version)
                .where(audit.c.model == model, audit.c.alias == PRODUCTION, audit.c.to_version == current)
                .where(audit.c.action.in_(("move", "promote")))
                .order_by(audit.c.id.desc())
                .limit(1)
            )
            before = connection.scalar(query)
            if before is None or not self._exists(connection, model, before):
                raise NothingBefore(f"production of {model!r} pointed at no other version that still exists")
            _point(connection, who, "rollback", model, PRODUCTION, before, why)
            return before

    def delete(self, model: str, version: int, who: str, why: str) -> None:
        """Remove a version's files; its number is not used again. Raises NoSuchVersion or VersionInUse."""
        with self.database.write() as connection:
            if not self._exists(connection, model, version):
                raise _no_version(model, version)
            pointing = select(aliases.c.alias).where(aliases.c.model == model, aliases.c.version == version)
            if names := connection.scalars(pointing).all():
                raise VersionInUse(f"version {version} of {model!r} is in use: {', '.join(names)} points at it")
            row = (versions.c.model == model) & (versions.c.version == version)
            connection.execute(update(versions).where(row).values(deleted=True))
            _note(connection, who, "delete", model, None, version, None, why)
        shutil.rmtree(self.directory / model / str(version), ignore_errors=True)

    def prune(self, model: str, keep: int) -> None:
        """Delete all but the newest `keep` versions, sparing what an alias points at."""
        snapshot = self.snapshot()
        pointed = {version for (name, _), version in snapshot.aliases.items() if name == model}
        mine = sorted((version for name, version in snapshot.versions if name == model), reverse=True)
        for version in mine[keep:]:
            if version not in pointed:
                self.delete(model, version, "minist", f"more than the {keep} versions that are kept")

    def _exists(self, connection: Connection, model: str, version: int) -> bool:
        row = (versions.c.model == model) & (versions.c.version == version) & versions.c.deleted.is_(False)
        return connection.execute(select(versions.c.version).where(row)).first() is not None


def _no_version(model: str, version: int) -> NoSuchVersion:
    return NoSuchVersion(f"there is no version {version} of a model {model!r}")


def _current(connection: Connection, model: str) -> int | None:
    query = select(aliases.c.version).where(aliases.c.model == model, aliases.c.alias == PRODUCTION)
    return connection.scalar(query)


def _point(
    connection: Connection, who: str, action: str, model: str, alias: str, version: int, why: str
) -> None:
    row = (aliases.c.model == model) & (aliases.c.alias == alias)
    before = connection.scalar(select(aliases.c.version).where(row))
    connection.execute(delete(aliases).where(row))
    connection.execute(insert(aliases).values(model=model, alias=alias, version=version))
    _note(connection, who, action, model, alias, before, version, why)


def _note(
    connection: Connection,
    who: str,
    action: str,
    model: str,
    alias: str | None,
    before: int | None,
    after: int | None,
    why: str,
) -> None:
    row = {"who": who, "action": action, "model": model, "alias": alias, "why": why}
    connection.execute(insert(audit).values(at=time.time(), from_version=before, to_version=after, **row))


def _flush(directory: Path) -> None:
    """Force a folder and the files in it to disk."""
    for path in (*(entry for entry in directory.iterdir() if entry.is_file()), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
