"""The supervisor: claims one job after the other and watches over the child that runs it.

Nothing it knows is lost with it: the job table says what is running, the run directory how far it got.
"""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.exc import OperationalError

from app.jobs.checkpoints import Checkpoints
from app.jobs.executor import Execution, Executor, RunDirectory
from app.jobs.job import ClaimLost, Job, Kind
from app.jobs.leases import LeaseWatch
from app.jobs.machine import Machine
from app.jobs.queue import Queue
from app.jobs.relay import Relay
from app.jobs.retention import Retention
from app.store.errors import ArtifactsAway, reason
from models.errors import CheckpointError

log = logging.getLogger("minist.jobs")

POLL_SECONDS = 0.2
RETRY_SECONDS = 5.0  # until what could not be started is tried again
BUSY_EXIT = 75  # the child found the run directory held by another process
LATER_EXIT = 69  # what the child needs is away: a cluster, of which its log says more
LATER_SECONDS = 20.0  # until it is tried again


@dataclass(frozen=True)
class Limits:
    """Of one job: seconds of silence after which its supervisor is taken for dead, and seconds it may run,
    by which setting."""

    lease: float
    seconds: float
    setting: str = "MINIST_JOB_HOURS"


class Prepares(Protocol):
    """Makes run directories with all that the child needs."""

    def prepare(self, job: Job) -> RunDirectory: ...

    def run_directory(self, job: Job) -> RunDirectory: ...

    def clear(self, job: Job) -> None:
        """Remove what an attempt has left and no other will use."""


class Publishes(Protocol):
    """Makes what a run left a version, and the job a success; the version."""

    def publish(self, job: Job, run: RunDirectory) -> int: ...


class Supervisor:
    """Runs jobs of one kind until `stop`; several on one table share the work."""

    def __init__(
        self,
        queue: Queue,
        executor: Executor,
        preparation: Prepares,
        publication: Publishes,
        retention: Retention | None,
        limits: Limits,
        kind: Kind = "train",
        checkpoints: Checkpoints | None = None,
        machine: Machine | None = None,
    ) -> None:
        """With `checkpoints` of an object store, jobs wait while that is away, and their claims are kept. With
        a `machine`, jobs that ask for more than it has are left to others."""
        self.machine = machine
        self.checkpoints = checkpoints
        self.queue = queue
        self.executor = executor
        self.preparation = preparation
        self.publication = publication
        self.retention = retention
        self.limits = limits
        self.kind = kind
        self.watch = LeaseWatch(limits.lease)
        self._away = False  # the database does not answer, and that was said
        self.stopping = False  # no Event: a signal handler must not wait for its lock

    def stop(self) -> None:
        """End soon; the job that runs goes back into the queue, with its checkpoint."""
        self.stopping = True

    def run(self, alive: Callable[[], bool] = lambda: True) -> None:
        """Until `stop`, or until `alive` is false. Whatever goes wrong is logged, and tried again."""
        while self._goes_on(alive):
            try:
                worked = self.run_one(alive)
                if self.retention is not None:
                    self.retention.prune()
                self._answers()
            except OperationalError as error:  # a full disk, say: the table may be writable again later
                self._does_not_answer(error)
                worked = False
            except Exception:
                log.exception("a job could not be supervised; the next turn is in %g s", RETRY_SECONDS)
                self._pause(RETRY_SECONDS)
                worked = True
            if not worked:
                self._pause(POLL_SECONDS)

    def run_one(self, alive: Callable[[], bool] = lambda: True) -> bool:
        """Run the next job to its end; whether there was one."""
        job = self.queue.claim(self.watch, self.kind, self.machine)
        if job is None:
            return False
        log.info("job %s: attempt %d of %s", job.id, job.attempts, job.model)
        try:
            self._run(job, alive)
        except ClaimLost:
            log.info("job %s: the claim is gone", job.id)
        finally:
            self.preparation.clear(job)
        return True

    def _pause(self, seconds: float) -> None:
        """Sleep, but not after `stop`."""
        until = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < until:
            time.sleep(min(POLL_SECONDS, max(0.0, until - time.monotonic())))

    def _goes_on(self, alive: Callable[[], bool]) -> bool:
        return not self.stopping and alive()

    def _run(self, job: Job, alive: Callable[[], bool]) -> None:
        execution = self._start(job, alive)
        if execution is None:
            return
        try:
            error = self._watch(job, execution, alive)
        finally:
            execution.kill()  # whatever happened, no child is left behind
        code = execution.exit_code()
        with self._held(job):
            while not self._settled(job, code, error):
                if not self._goes_on(alive):
                    return  # it is claimed again, and settled, by the next supervisor
                self._pause(POLL_SECONDS)

    @contextlib.contextmanager
    def _held(self, job: Job) -> Iterator[None]:
        """Give signs of life meanwhile: what an object store has to take or give may take long."""
        if self.checkpoints is None or self.checkpoints.folders.objects is None:
            yield
            return
        ending = threading.Event()

        def renew() -> None:
            while not ending.wait(self.limits.lease / 5):
                with contextlib.suppress(OperationalError, ClaimLost):  # whoever writes meets it, too
                    self.queue.renew(job)

        thread = threading.Thread(target=renew, name="claim", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    def _start(self, job: Job, alive: Callable[[], bool]) -> Execution | None:
        """The child; None where there is none: the job has failed, or is tried again later."""
        try:
            with self._held(job):
                run = self._prepared(job, alive)
        except OSError as problem:
            self.queue.fail(job, f"the run could not be started: {problem}", None)
            return None
        try:
            return self.executor.start(run, self.limits.lease)
        except OSError as problem:  # no process or descriptor is free: not the job's fault
            sentence = f"no process could be started ({problem}); it is tried again"
            log.error("job %s: %s", job.id, sentence)
            self.queue.requeue(job, sentence)
            self._pause(RETRY_SECONDS)
            return None

    def _prepared(self, job: Job, alive: Callable[[], bool]) -> RunDirectory:
        """The run directory, once the object store gives what belongs there. Raises OSError or ClaimLost."""
        while True:
            try:
                return self.preparation.prepare(job)
            except ArtifactsAway as problem:
                log.error("job %s waits for the store: %s", job.id, problem)
            self._pause(self.limits.lease / 2)
            if not self._goes_on(alive):
                self.queue.requeue(job)
                raise ClaimLost
            if not self.queue.owns(job):
                raise ClaimLost

    def _watch(self, job: Job, execution: Execution, alive: Callable[[], bool]) -> str | None:
        """Relay the messages of the child until it has ended; the reason it gave for a failure.

        Heartbeats go out in every turn, whether the database can be written or not. Raises ClaimLost as soon as
        the claim is gone; where this supervisor ends, it requeues the job first.
        """
        with self._saving(job) as on_epoch:
            return self._relayed(job, execution, alive, Relay(self.queue, job, self.limits.lease / 5, on_epoch))

    def _saving(self, job: Job) -> AbstractContextManager[Callable[[], None]]:
        """Gives what is to be called after every epoch."""
        if self.checkpoints is None:
            return contextlib.nullcontext(lambda: None)
        return self.checkpoints.following(job, self.preparation.run_directory(job))

    def _relayed(self, job: Job, execution: Execution, alive: Callable[[], bool], relay: Relay) -> str | None:
        while True:
            if not self._goes_on(alive):
                self.queue.requeue(job)
                raise ClaimLost
            execution.heartbeat()
            with contextlib.suppress(OperationalError):  # the relay tells
                self.queue.look(self.watch)  # a silent claim is then taken as soon as this job has ended
            ended = execution.exit_code() is not None
            relay.receive(execution, 0 if ended else POLL_SECONDS)
            if relay.seconds > self.limits.seconds and not ended:
                return (
                    f"the job ran for more than the {self.limits.seconds / 3600:g} hours that are allowed "
                    f"({self.limits.setting}); resume it to go on from its last complete epoch"
                )
            if relay.write() and ended:
                return relay.failure
            if ended:
                self._pause(POLL_SECONDS)

    def _settled(self, job: Job, code: int | None, error: str | None) -> bool:
        """Write how the job ended; whether that could be written."""
        try:
            self._settle(job, code, error)
        except ArtifactsAway as problem:
            log.error("job %s: its result is kept here, and waits for the store: %s", job.id, problem)
            self._pause(self.limits.lease / 2)
            return False
        except OperationalError as problem:
            if not self._away:
                log.error("job %s: its end cannot be written; it is tried again", job.id)
            self._does_not_answer(problem)
            return False
        self._answers()
        return True

    def _does_not_answer(self, error: OperationalError) -> None:
        """Say so once; what is asked several times a second would fill the log."""
        if not self._away:
            log.error("the database does not answer: %s", reason(error))
        self._away = True

    def _answers(self) -> None:
        if self._away:
            log.warning("the database answers again")
        self._away = False

    def _settle(self, job: Job, code: int | None, error: str | None) -> None:
        if error is not None:
            self.queue.fail(job, error, code)
        elif code == 0:
            self._publish(job)
        elif code == BUSY_EXIT:
            self.queue.requeue(job)
            self._pause(POLL_SECONDS)
        elif code == LATER_EXIT:
            sentence = f"{_end_of_log(self.preparation.run_directory(job))}; it is tried again"
            log.error("job %s: %s", job.id, sentence)
            self.queue.requeue(job, sentence)
            self._pause(LATER_SECONDS)
        else:
            assert code is not None
            self.queue.record_crash(job, _last_log_line(self.preparation.run_directory(job), code), code)

    def _publish(self, job: Job) -> None:
        if not self.queue.owns(job):
            raise ClaimLost
        run = self.preparation.run_directory(job)
        try:
            version = self.publication.publish(job, run)
        except (OSError, CheckpointError) as error:
            self.queue.fail(job, f"the result could not be published: {error}", 0)
            return
        log.info("job %s: version %d of %s", job.id, version, job.model)
        with contextlib.suppress(OSError):  # people's pictures stay no longer than they must
            run.corrections.unlink()
        if self.retention is not None:
            self.retention.prune_versions(job.model)


def _last_log_line(run: RunDirectory, code: int) -> str:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    said = _end_of_log(run)
    return f"the job's process {how}; its log ends with: {said}" if said else f"the job's process {how}"


def _end_of_log(run: RunDirectory) -> str:
    """Its last line; empty where there is none."""
    with contextlib.suppress(OSError, IndexError):
        return run.log.read_text(errors="replace").strip().splitlines()[-1][:1000]
    return ""
