"""The job table: claims, tokens, bounds, one terminal state."""

import stat
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from app.jobs.job import MAX_CRASHES, ClaimLost, Job, KeyReused, QueueFull, WrongStatus
from app.jobs.leases import LeaseWatch
from app.jobs.queue import Queue
from app.jobs.relay import Relay
from app.store.database import Database
from app.store.errors import StoreError
from app.store.schema import MIGRATIONS, upgrade
from app.store.tables import metadata

CONFIG = {"name": "minist", "recipe": "mlp", "epochs": 3}
EPOCH = {"epoch": 1, "accuracy": 0.9}
STEP = {"epoch": 1, "step": 3, "steps": 9, "eta_seconds": 41.0}


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


def submit(queue: Queue, **config: object) -> Job:
    return queue.submit({**CONFIG, **config}, "if_better", limit=20, idempotency_key=None)


def claim(queue: Queue, watch: LeaseWatch | None = None) -> Job:
    job = queue.claim(watch)
    assert job is not None
    return job


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watcher:
    """A supervisor that looks five times in the length of a lease of 10 seconds."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.clock = Clock()
        self.watch = LeaseWatch(10, self.clock)

    def claim_within(self, seconds: float) -> Job | None:
        until = self.clock.now + seconds
        while (job := self.queue.claim(self.watch)) is None and self.clock.now < until:
            self.clock.now += 2
        return job


def take_over(queue: Queue) -> Job:
    """The claim of a claimant that has gone silent."""
    job = Watcher(queue).claim_within(20)
    assert job is not None
    return job


def current(queue: Queue, job: Job) -> Job:
    found = queue.get(job.id)
    assert found is not None
    return found


def test_jobs_are_claimed_in_order_of_arrival(queue: Queue) -> None:
    first, second = submit(queue), submit(queue)
    assert [queue.position(job) for job in (first, second)] == [1, 2]
    assert claim(queue).id == first.id
    assert claim(queue).id == second.id
    assert queue.claim() is None
    assert queue.position(current(queue, first)) is None


def test_larger_priorities_are_claimed_first(queue: Queue) -> None:
    """Of one priority by arrival; positions say so, and a job that is resumed keeps its own."""

    def add(name: str, priority: int) -> Job:
        return queue.submit({**CONFIG, "name": name}, "if_better", 20, None, priority=priority)

    added = [add("usual", 0), add("later", -3), add("urgent", 5), add("second", 0)]
    assert [queue.position(job) for job in added] == [2, 4, 1, 3]
    queue.cancel(added[2].id)
    queue.resume(added[2].id, limit=20)
    assert [claim(queue).model for _ in added] == ["urgent", "usual", "second", "later"]


def test_many_claimants_at_once_get_different_jobs(queue: Queue) -> None:
    submitted = {submit(queue).id for _ in range(12)}
    with ThreadPoolExecutor(16) as pool:
        claimed = [job.id for job in pool.map(lambda _: queue.claim(), range(16)) if job]
    assert len(claimed) == len(set(claimed)) == 12
    assert set(claimed) == submitted


def test_a_bound_of_5_under_100_posts_accepts_exactly_5(queue: Queue) -> None:
    def post(_: int) -> bool:
        try:
            queue.submit(CONFIG, "never", limit=5, idempotency_key=None)
        except QueueFull:
            return False
        return True

    with ThreadPoolExecutor(40) as pool:
        assert sum(pool.map(post, range(100))) == 5
    assert queue.counts()["queued"] == 5


def test_retry_after_is_what_the_running_job_needs_or_a_usual_jobs_time(queue: Queue) -> None:
    with pytest.raises(QueueFull) as full:
        queue.submit(CONFIG, "never", limit=0, idempotency_key=None)
    assert full.value.retry_after == 60
    submit(queue)
    queue.step(claim(queue), STEP)
    with pytest.raises(QueueFull) as full:
        queue.submit(CONFIG, "never", limit=1, idempotency_key=None)
    assert full.value.retry_after == 41


def test_an_idempotency_key_makes_a_repeated_post_the_same_job(queue: Queue) -> None:
    first = queue.submit(CONFIG, "never", limit=1, idempotency_key="k")
    assert queue.submit(CONFIG, "never", limit=1, idempotency_key="k").id == first.id
    with pytest.raises(KeyReused):
        queue.submit({**CONFIG, "epochs": 4}, "never", limit=9, idempotency_key="k")


def test_concurrent_posts_with_one_key_make_one_job(queue: Queue) -> None:
    with ThreadPoolExecutor(20) as pool:
        posts = pool.map(lambda _: queue.submit(CONFIG, "never", limit=9, idempotency_key="k").id, range(20))
        assert len(set(posts)) == 1


def test_every_write_of_a_claim_that_was_lost_is_refused(queue: Queue) -> None:
    submit(queue)
    frozen = claim(queue)
    awake = take_over(queue)
    assert awake.id == frozen.id
    assert awake.token > frozen.token
    writes: tuple[Callable[[], None], ...] = (
        lambda: queue.renew(frozen, 1.0),
        lambda: queue.step(frozen, STEP),
        lambda: queue.epoch(frozen, EPOCH),
        lambda: queue.note(frozen, {"text": "small-image was chosen"}),
        lambda: queue.fail(frozen, "x", 1),
        lambda: queue.record_crash(frozen, "x", 1),
        lambda: queue.requeue(frozen),
    )
    for write in writes:
        with pytest.raises(ClaimLost):
            write()
    assert not queue.owns(frozen)
    assert queue.owns(awake)


def test_a_claim_is_taken_once_it_was_seen_silent_for_a_lease(queue: Queue) -> None:
    submit(queue)
    job = claim(queue)
    watcher = Watcher(queue)
    assert watcher.claim_within(8) is None
    taken = watcher.claim_within(2)
    assert taken is not None
    assert (taken.id, taken.attempts, taken.crashes) == (job.id, 2, 1)


def test_a_claim_that_gives_signs_of_life_is_not_taken(queue: Queue) -> None:
    submit(queue)
    job = claim(queue)
    watcher = Watcher(queue)
    for _ in range(20):
        assert watcher.claim_within(8) is None
        queue.renew(job, 1.0)


def test_the_time_of_day_takes_nobodys_job(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is set forward by a day, and back by two: nothing is compared with it."""
    submit(queue)
    job = claim(queue)
    watcher = Watcher(queue)
    for moved in (86_400, -86_400):
        now = time.time() + moved
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert watcher.claim_within(4) is None
        queue.renew(job, 1.0)
    assert watcher.claim_within(12) is not None


@pytest.mark.parametrize("seconds", [6, 60, 86_400])
def test_a_watcher_that_slept_starts_its_watch_anew(queue: Queue, seconds: float) -> None:
    """The claimant may have slept with it: the machine was suspended, or the container paused."""
    submit(queue)
    claim(queue)
    watcher = Watcher(queue)
    assert watcher.claim_within(8) is None
    watcher.clock.now += seconds
    assert watcher.claim_within(8) is None
    assert watcher.claim_within(4) is not None


@pytest.mark.parametrize("database_url", [None])  # nobody locks all of a Postgres
def test_a_watcher_that_waited_for_the_database_starts_anew(queue: Queue) -> None:
    """The claimant was locked out as well; it gets the time to say that it lives."""
    submit(queue)
    claim(queue)
    watcher = Watcher(queue)
    assert watcher.claim_within(8) is None
    watcher.clock.now += 2
    locked = threading.Event()

    def lock() -> None:
        with queue.database.write():
            locked.set()
            time.sleep(0.3)
            watcher.clock.now += 3  # that is how long it takes

    holder = threading.Thread(target=lock)
    holder.start()
    locked.wait()
    assert queue.claim(watcher.watch) is None
    holder.join()
    assert watcher.claim_within(8) is None
    assert watcher.claim_within(4) is not None


def test_a_job_that_crashes_every_time_fails_with_its_exit_code_and_frees_the_queue(queue: Queue) -> None:
    bad, good = submit(queue), submit(queue)
    for _ in range(MAX_CRASHES):
        queue.record_crash(claim(queue), "it was killed by SIGSEGV", -11)
    assert (current(queue, bad).status, current(queue, bad).exit_code) == ("failed", -11)
    assert "SIGSEGV" in str(current(queue, bad).error)
    assert claim(queue).id == good.id


def test_a_job_whose_supervisors_die_fails_too(queue: Queue) -> None:
    bad = submit(queue)
    assert claim(queue).id == bad.id
    for _ in range(MAX_CRASHES - 1):
        assert take_over(queue).id == bad.id
    assert Watcher(queue).claim_within(20) is None
    assert current(queue, bad).status == "failed"


def test_what_a_run_has_decided_is_an_event(queue: Queue) -> None:
    job = submit(queue)
    queue.note(claim(queue), {"text": "small-image was chosen"})
    assert queue.events(job.id, 0)[-1].kind == "note"


def test_progress_forgives_crashes(queue: Queue) -> None:
    """A long job on a machine that is switched off every night still ends."""
    job = submit(queue)
    for _ in range(3 * MAX_CRASHES):
        claimed = claim(queue)
        queue.epoch(claimed, EPOCH)
        queue.record_crash(claimed, "power cut", -9)
    assert current(queue, job).status == "queued"


def test_a_terminal_state_is_written_once(queue: Queue) -> None:
    job = submit(queue)
    running = claim(queue)
    assert queue.cancel(job.id).status == "cancelled"
    with pytest.raises(ClaimLost):
        queue.fail(running, "too late", 1)
    with pytest.raises(WrongStatus):
        queue.cancel(job.id)
    told = [event.data["status"] for event in queue.events(job.id) if event.kind == "status"]
    assert told == ["queued", "running", "cancelled"]


def test_cancel_and_finish_at_once_leave_one_winner(queue: Queue) -> None:
    for _ in range(20):
        submit(queue)
        running = claim(queue)
        outcomes: list[str] = []
        start = threading.Barrier(2)

        def race(
            name: str, act: object, outcomes: list[str] = outcomes, start: threading.Barrier = start
        ) -> None:
            start.wait()
            try:
                act()  # type: ignore[operator]
                outcomes.append(name)
            except (ClaimLost, WrongStatus):
                pass

        threads = [
            threading.Thread(target=race, args=("cancelled", lambda job=running: queue.cancel(job.id))),
            threading.Thread(target=race, args=("failed", lambda job=running: queue.fail(job, "x", 1))),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes == [current(queue, running).status]


def test_a_cancelled_job_resumes_with_a_clean_slate(queue: Queue) -> None:
    job = submit(queue)
    queue.cancel(job.id)
    resumed = queue.resume(job.id, limit=1)
    assert (resumed.status, resumed.crashes, resumed.error) == ("queued", 0, None)
    with pytest.raises(WrongStatus):
        queue.resume(job.id, limit=9)


def test_resuming_keeps_to_the_bound(queue: Queue) -> None:
    job = submit(queue)
    queue.cancel(job.id)
    submit(queue)
    with pytest.raises(QueueFull):
        queue.resume(job.id, limit=1)


def test_the_best_epoch_is_kept_beside_the_last(queue: Queue) -> None:
    submit(queue)
    job = claim(queue)
    for epoch, accuracy in enumerate((0.5, 0.9, 0.7), start=1):
        queue.epoch(job, {"epoch": epoch, "accuracy": accuracy})
    row = current(queue, job)
    assert row.best is not None
    assert row.last is not None
    assert (row.best["epoch"], row.last["epoch"]) == (2, 3)


class Said:
    """An execution that has said all of this."""

    def __init__(self, *messages: Mapping[str, Any]) -> None:
        self._messages = iter(messages)

    def message(self, wait: float) -> Mapping[str, Any] | None:
        return next(self._messages, None)

    def heartbeat(self) -> None: ...

    def kill(self) -> None: ...

    def exit_code(self) -> int | None:
        return None


def test_an_epoch_that_is_told_again_is_recorded_where_it_was_missed(queue: Queue) -> None:
    """It was saved, and the supervisor gone before it heard."""
    submit(queue)
    first = claim(queue)
    for epoch in (1, 2):
        queue.epoch(first, {"epoch": epoch, "accuracy": 0.5})
    queue.requeue(first)
    second = claim(queue)
    relay = Relay(queue, second, 1.0)
    again = [{"event": "epoch", "again": True, "epoch": epoch, "accuracy": 0.6} for epoch in (1, 2, 3)]
    relay.receive(Said(*again, {"event": "epoch", "epoch": 4, "accuracy": 0.7}), 0)
    assert relay.write()
    found = [event.data for event in queue.events(second.id) if event.kind == "epoch"]
    assert found == [{"epoch": n, "accuracy": a} for n, a in enumerate((0.5, 0.5, 0.6, 0.7), start=1)]


def test_some_steps_are_kept_when_the_job_ends(queue: Queue) -> None:
    """Evenly, so that its curves can be drawn again."""
    submit(queue)
    job = claim(queue)
    for step in range(450):
        queue.step(job, {**STEP, "step": step})
    queue.epoch(job, EPOCH)
    queue.fail(job, "x", 1)
    found = queue.events(job.id)
    assert [event.data["step"] for event in found if event.kind == "step"] == list(range(0, 450, 3))
    assert [event.kind for event in found if event.kind != "step"] == ["status", "status", "epoch", "status"]


def test_a_new_database_is_what_the_migrations_make(tmp_path: Path) -> None:
    (tmp_path / "migrated").mkdir()
    created, migrated = Database(tmp_path / "created"), Database(tmp_path / "migrated")
    created.migrate()
    with migrated.engines.schema_change() as connection:
        upgrade(connection)
    migrated.migrate()
    schemas = []
    for database in (created, migrated):
        engine = create_engine(f"sqlite:///{database.path}")
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
            rows = connection.execute(text("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_auto%'"))
            schemas.append(sorted(row.name for row in rows))
        engine.dispose()
        database.close()
    assert schemas[0] == schemas[1]


def test_a_database_of_an_older_release_is_migrated_with_what_is_in_it(tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(f"sqlite:///{tmp_path / 'minist.db'}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text(
                "INSERT INTO jobs (id, status, model, config, promote, request_digest, token, attempts, "
                "crashes, created_at) VALUES ('old', 'succeeded', 'minist', '{}', 'never', '', 1, 1, 0, 1.5)"
            )
        )
    engine.dispose()
    database = Database(tmp_path)
    database.migrate()
    job = Queue(database).get("old")
    assert job is not None
    assert (job.created_at, job.feedback, job.beat, job.submitted_by) == (1.5, None, 0, None)
    database.close()


def test_processes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    def start(_: int) -> None:
        database = Database(tmp_path)
        database.migrate()
        database.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(8)))


def test_a_newer_database_is_refused_with_a_sentence(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.migrate()
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer minist"):
        database.migrate()
    database.close()


@pytest.mark.parametrize("damage", ["junk", "page"])
def test_a_damaged_database_is_refused_with_a_sentence(tmp_path: Path, damage: str) -> None:
    queue = Queue(Database(tmp_path))
    queue.database.migrate()
    for _ in range(20):
        submit(queue)
    queue.database.close()
    path = tmp_path / "minist.db"
    data = bytearray(path.read_bytes())
    if damage == "junk":
        data = bytearray(b"this is no database" * 1000)
    else:  # every page but the first
        data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    database = Database(tmp_path)
    with pytest.raises(StoreError, match=r"is damaged .*minist restore") as error:
        database.migrate()
    assert "\n" not in str(error.value)
    database.close()
    assert path.read_bytes() == data


def test_the_database_is_its_owners_alone(tmp_path: Path) -> None:
    """Also one of an older release, and the files that SQLite puts beside it."""
    (tmp_path / "minist.db").touch(0o644)
    queue = Queue(Database(tmp_path))
    queue.database.migrate()
    submit(queue)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("minist.db*")}
    assert set(modes.values()) == {0o600}
    assert len(modes) == 3
    queue.database.close()


def test_old_jobs_are_forgotten_with_their_events(queue: Queue) -> None:
    old, unfinished = submit(queue), submit(queue)
    queue.cancel(old.id)
    queue.forget([old.id, unfinished.id])
    assert queue.get(old.id) is None
    assert queue.events(old.id) == []
    assert queue.get(unfinished.id) is not None
