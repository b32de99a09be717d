"""The supervisor: claims one job after the other and watches over the child that runs it.

Nothing it knows is lost with it: the job table says what is running, the run directory how far it got.
"""

import contextlib
import json
import logging
import os
import select
import shutil
import signal
import time
from collections.abc import Callable

from sqlalchemy.exc import OperationalError

from app.jobs.executor import Execution, Executor, RunDirectory
from app.jobs.publication import Publication
from app.jobs.queue import ClaimLost, Job, Queue
from app.store.feedback import Feedback
from app.store.paths import HomePaths
from app.store.versions import PRODUCTION, Versions
from models.errors import CheckpointError
from models.files import write_atomically

log = logging.getLogger("minist.jobs")

POLL_SECONDS = 0.2
BUSY_EXIT = 75  # the child found the run directory held by another process
PRUNE_SECONDS = 600


class Supervisor:
    """Runs jobs until `stop`; several on one table share the work."""

    def __init__(
        self,
        queue: Queue,
        versions: Versions,
        executor: Executor,
        paths: HomePaths,
        lease: float,
        keep_versions: int,
        keep_runs_days: float,
        feedback: Feedback,
    ) -> None:
        self.queue = queue
        self.versions = versions
        self.executor = executor
        self.paths = paths
        self.lease = lease
        self.keep_versions = keep_versions
        self.keep_runs_days = keep_runs_days
        self.feedback = feedback
        self.publication = Publication(queue, versions)
        self.stopping = False
        self._pruned = 0.0

    def stop(self) -> None:
        """End soon; the job that runs goes back into the queue, with its checkpoint."""
        self.stopping = True

    def run(self, alive: Callable[[], bool] = lambda: True) -> None:
        """Until `stop`, or until `alive` is false."""
        while not self.stopping and alive():
            try:
                worked = self.run_one(alive)
                self._prune_runs()
            except OperationalError as error:  # a full disk, say: the table may be writable again later
                log.error("the database does not answer: %s", error.orig)
                worked = False
            if not worked:
                time.sleep(POLL_SECONDS)

    def run_one(self, alive: Callable[[], bool] = lambda: True) -> bool:
        """Run the next job to its end; whether there was one."""
        job = self.queue.claim(self.lease)
        if job is None:
            return False
        log.info("job %s: attempt %d of %s", job.id, job.attempts, job.model)
        try:
            self._run(job, alive)
        except ClaimLost:
            log.info("job %s: the claim is gone", job.id)
        return True

    def _run(self, job: Job, alive: Callable[[], bool]) -> None:
        try:
            execution = self.executor.start(self._prepare(job), self.lease)
        except OSError as problem:
            self.queue.fail(job, f"the run could not be started: {problem}", None)
            return
        try:
            error = self._watch(job, execution, alive)
        finally:
            execution.kill()  # whatever happened, no child is left behind
        self._settle(job, execution.exit_code(), error)

    def _prepare(self, job: Job) -> RunDirectory:
        """The run directory with its config, and the corrections where the job is to learn them.

        Both are written once: a job that is started again learns what it learned before.
        """
        run = self._run_directory(job)
        if job.last and not run.config.exists():
            raise FileNotFoundError(f"the run directory {run.path} was deleted; its checkpoint is lost")
        run.path.mkdir(parents=True, exist_ok=True)
        if not run.config.exists():
            if job.feedback is not None:
                snapshot = self.versions.snapshot()
                serving = snapshot.versions.get((job.model, snapshot.aliases.get((job.model, PRODUCTION), 0)))
                before = serving.weights if serving else None
                self.feedback.write(run.corrections, job.model, job.created_at, before)
            write_atomically(run.config, json.dumps(job.config, indent=2).encode() + b"\n")
        return run

    def _run_directory(self, job: Job) -> RunDirectory:
        return RunDirectory(self.paths.run(job.id))

    def _watch(self, job: Job, execution: Execution, alive: Callable[[], bool]) -> str | None:
        """Relay the messages of the child until it has ended; the reason it gave for a failure.

        Raises ClaimLost as soon as the claim is gone; where this supervisor ends, it requeues the job first.
        """
        error: str | None = None
        renewed = 0.0
        ended = False
        while not ended:
            if self.stopping or not alive():
                self.queue.requeue(job)
                raise ClaimLost
            if time.monotonic() - renewed > self.lease / 5:
                self.queue.renew(job, self.lease)
                execution.heartbeat()
                renewed = time.monotonic()
            elif not self.queue.owns(job):
                raise ClaimLost
            ended = execution.exit_code() is not None
            while (message := execution.message(0 if ended else POLL_SECONDS)) is not None:
                data = {key: value for key, value in message.items() if key != "event"}
                if message["event"] == "step":
                    self.queue.step(job, data)
                elif message["event"] == "epoch":
                    self.queue.epoch(job, data)
                elif message["event"] == "failed":
                    error = data["error"]
                if not ended:
                    break
        return error

    def _settle(self, job: Job, code: int | None, error: str | None) -> None:
        """Write how the job ended."""
        if code == 0:
            self._publish(job)
        elif code == BUSY_EXIT:
            self.queue.requeue(job)
            time.sleep(POLL_SECONDS)
        elif error is not None:
            self.queue.fail(job, error, code)
        else:
            assert code is not None
            self.queue.record_crash(job, self._last_log_line(job, code), code)

    def _publish(self, job: Job) -> None:
        run = self._run_directory(job)
        try:
            version = self.publication.publish(job, run)
        except (OSError, CheckpointError) as error:
            self.queue.fail(job, f"the result could not be published: {error}", 0)
            return
        log.info("job %s: version %d of %s", job.id, version, job.model)
        with contextlib.suppress(OSError):  # people's pictures stay no longer than they must
            run.corrections.unlink()
        self.versions.prune(job.model, self.keep_versions)

    def _last_log_line(self, job: Job, code: int) -> str:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        with contextlib.suppress(OSError):
            lines = self._run_directory(job).log.read_text().strip().splitlines()
            if lines:
                return f"the training process {how}; its log ends with: {lines[-1]}"
        return f"the training process {how}"

    def _prune_runs(self) -> None:
        """Remove the run directories of jobs that ended long ago."""
        if time.monotonic() - self._pruned < PRUNE_SECONDS and self._pruned:
            return
        self._pruned = time.monotonic()
        for job_id in self.queue.ended_before(time.time() - self.keep_runs_days * 86_400):
            shutil.rmtree(self.paths.run(job_id), ignore_errors=True)


def stdin_is_open() -> bool:
    """Whether the process that started this one, and holds its standard input, is still there."""
    ready, _, _ = select.select([0], [], [], 0)
    return not ready or bool(os.read(0, 1))
