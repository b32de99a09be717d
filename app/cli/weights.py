"""`minist publish FILE`: weights from elsewhere become a version, read by a process with limits."""

import argparse
import json
import os
import re
import shutil
import sys
import time
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Any

from pydantic import ValidationError

from app.cli.deployment import open_home, read_settings, who
from app.home import Home
from app.jobs.executor import check_card
from app.jobs.imports import DatasetNotReady, is_built_in, is_name
from app.jobs.job import TERMINAL, Job, QueueFull, Submitter
from app.jobs.weights import WeightsRequest
from app.store.datasets import INCOMING, NoSuchDataset, Source
from models.errors import first_problem

POLL_SECONDS = 0.2


def publish_file(chosen: argparse.Namespace) -> int:
    """Publish a weights file; the status."""
    file: Path = chosen.run
    name = chosen.name or re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-")[:64]
    if not is_name(name):
        return _failed(f"{name!r} is no name for a model: --name gives one, of small letters, digits, hyphens")
    try:
        card = check_card(_card(chosen.card, file))
        home = open_home(read_settings())
        with closing(home.database):
            return _publish(home, chosen, name, card)
    except ValidationError as error:
        return _failed(f"card: {first_problem(error)}")
    except (NoSuchDataset, DatasetNotReady, QueueFull, OSError, ValueError) as error:
        return _failed(str(error))


def _publish(home: Home, chosen: argparse.Namespace, name: str, card: dict[str, Any]) -> int:
    file: Path = chosen.run
    limit = home.settings.max_weights_bytes
    if file.stat().st_size > limit:
        return _failed(f"{file} has more than the {limit:,} bytes that are allowed (MINIST_MAX_WEIGHTS_BYTES)")
    if chosen.calibrate and not chosen.dataset:
        return _failed("--calibrate fits a temperature on the validation split of a --dataset: name one")
    dataset = chosen.dataset
    if dataset and not is_built_in(dataset):
        dataset = home.imports.pin(dataset).reference
    source = _copied(file, home.paths.datasets)
    try:
        wanted = WeightsRequest(name, source, card, dataset, chosen.calibrate, chosen.promote)
        job = home.weights.submit(wanted, Submitter(who(), True))
    finally:
        source.path.unlink(missing_ok=True)
    return _tell(home, _awaited(home, job))


def _card(said: str | None, file: Path) -> dict[str, Any]:
    """What is said of the weights. Raises OSError or ValueError."""
    beside = file.with_suffix(".json")
    if said is None:
        return json.loads(beside.read_bytes()) if beside.is_file() and beside != file else {}
    text = said if said.lstrip().startswith("{") else Path(said).read_text()
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("the card is no JSON object")
    return found


def _copied(file: Path, folder: Path) -> Source:
    """A copy in the home, which the job takes. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{INCOMING}{token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with file.open("rb") as source, os.fdopen(os.open(path, flags, 0o600), "wb") as copy:
        shutil.copyfileobj(source, copy, 1024 * 1024)
        copy.flush()
        os.fsync(copy.fileno())
    return Source(path, "", path.stat().st_size)


def _awaited(home: Home, job: Job) -> Job:
    """The job when it has ended; where no service is there to run it, this process does."""
    while job.status not in TERMINAL:
        if home.supervisors.count():
            time.sleep(POLL_SECONDS)
        else:
            home.weights_reader().run_one()
        job = home.queue.get(job.id) or job
    return job


def _tell(home: Home, job: Job) -> int:
    if job.status != "succeeded":
        return _failed(job.error or f"the job {job.id} is {job.status}")
    for event in home.queue.events(job.id):
        if event.kind == "note":
            print(f"  {event.data['text']}")
    decision = job.decision or {}
    if decision.get("accuracy") is not None:
        print(f"  test accuracy {decision['accuracy']:.4f}")
    place = "production points at it" if decision.get("promoted") else "production stays where it is"
    print(f"published {job.model}@{job.version}; {place}: {decision.get('reason')}")
    return 0


def _failed(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1
