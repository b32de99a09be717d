"""Postgres in the place of SQLite: many writers, values that it is strict about, rows that move in, its URL."""

import io
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import OperationalError

from app.cli import main
from app.home import Home
from app.jobs.job import QueueFull, Submitter
from app.jobs.queue import Queue
from app.settings import Settings
from app.store import tables
from app.store.copying import copy
from app.store.database import Database
from app.store.errors import DatabaseAway, StoreError
from app.store.feedback import Feedback, FeedbackFull
from app.store.keys import Keys
from app.store.paths import HomePaths
from app.store.postgres import Postgres, parse
from app.store.recent_predictions import RecentPredictions
from app.store.schema import problems, upgrade
from app.store.shipped import publish_shipped
from app.store.traffic import TrafficRows
from app.store.versions import Versions
from tests.conftest import ROOT, SAMPLE
from tests.postgres import PASSWORD, Server

pytestmark = pytest.mark.postgres

CONFIG = {"name": "minist", "recipe": "mlp", "epochs": 3}


@pytest.fixture
def url(postgres: Server, template: str) -> str:
    return postgres.database(template)


@pytest.fixture
def processes(url: str, tmp_path: Path) -> Iterator[list[Database]]:
    """The same database, as eight processes have it: each with connections and locks of its own."""
    opened = [Database(tmp_path / str(number), url=url) for number in range(8)]
    yield opened
    for database in opened:
        database.close()


def at_once(databases: list[Database], work: Callable[[Database], object]) -> list[object]:
    """The results of work that begins in all of them at the same moment; exceptions are results, too."""
    start = threading.Barrier(len(databases))

    def begin(database: Database) -> object:
        start.wait()
        try:
            return work(database)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(databases)) as pool:
        return list(pool.map(begin, databases))


def count(database: Database, table: str) -> int:
    with database.read() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


# -- many at once ------------------------------------------------------------------------------------


def test_8_claimants_get_300_jobs_and_none_twice(processes: list[Database]) -> None:
    me, queue = Submitter("me", admin=True), Queue(processes[0])
    with processes[0].write() as connection:
        ids = {queue.add_import(connection, "d", CONFIG, 300, me).id for _ in range(300)}

    def claim_all(database: Database) -> list[str]:
        queue, mine = Queue(database), []
        while (job := queue.claim(kind="import")) is not None:
            mine.append(job.id)
        return mine

    shares = at_once(processes, claim_all)
    claimed = [job for share in shares for job in share]  # type: ignore[attr-defined]
    assert len(claimed) == 300
    assert set(claimed) == ids
    assert sum(map(bool, shares)) > 1
    assert count(processes[0], "events WHERE data->>'status' = 'running'") == 300


def test_a_bound_of_5_under_100_posts_to_8_processes_accepts_exactly_5(processes: list[Database]) -> None:
    def post(database: Database) -> int:
        accepted = 0
        for _ in range(13):
            try:
                Queue(database).submit(CONFIG, "never", limit=5, idempotency_key=None)
                accepted += 1
            except QueueFull:
                continue
        return accepted

    assert sum(at_once(processes, post)) == 5  # type: ignore[arg-type]
    assert count(processes[0], "jobs") == 5


def test_one_idempotency_key_in_8_processes_makes_one_job(processes: list[Database]) -> None:
    made = at_once(processes, lambda one: Queue(one).submit(CONFIG, "never", 9, "the same").id)
    assert len(set(made)) == 1


def test_homes_that_start_at_once_on_an_empty_database_make_one_of_everything(
    postgres: Server, tmp_path: Path
) -> None:
    """Tables, versions of the shipped weights, the first key."""
    url = postgres.database()

    def start(home: Path) -> tuple[Home, str | None]:
        opened = Home.open(Settings(home=home, data_dir=SAMPLE, database_url=url))  # type: ignore[arg-type]
        return opened, opened.keys.make_first(opened.paths.admin_key)

    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(start, [tmp_path / str(number) for number in range(4)]))
    assert len([key for _, key in started if key]) == 1
    snapshot = started[0][0].versions.snapshot()
    assert {number for _, number in snapshot.versions} == {1}
    for home, _ in started:
        for version in home.versions.snapshot().versions.values():
            version.intact_card()
        home.database.close()


def test_aliases_and_their_audit_list_agree_whoever_moves_them(processes: list[Database]) -> None:
    homes = [Versions(database, HomePaths(database.path.parent)) for database in processes]
    publish_shipped(homes[0])
    row = {"model": "minist", "sha256": "0", "created_at": 1.0, "deleted": False}
    with processes[0].write() as connection:
        connection.execute(insert(tables.versions), [{**row, "version": number} for number in range(2, 9)])

    def move(database: Database) -> None:
        number = processes.index(database) + 1
        for _ in range(10):
            homes[number - 1].move("minist", "canary", number, str(number), "why")

    assert at_once(processes, move) == [None] * 8
    entries = homes[0].audit("minist")[:80]
    assert homes[0].snapshot().aliases["minist", "canary"] == entries[0].to_version
    for after, before in pairwise(entries):
        assert after.from_version == before.to_version


def test_a_change_is_never_older_than_one_that_was_seen(processes: list[Database]) -> None:
    """Registries ask for the newest number alone: one that is committed late must not have an older one."""
    first, second = (Versions(one, HomePaths(one.path.parent)) for one in processes[:2])
    publish_shipped(first)
    begun, seen = threading.Event(), []

    def slow() -> None:
        with processes[0].write("versions") as connection:
            first._require(connection, "minist", 1)
            begun.set()
            time.sleep(0.3)
            connection.execute(
                insert(tables.audit).values(at=1.0, who="a", action="move", model="minist", why="slow")
            )

    thread = threading.Thread(target=slow)
    thread.start()
    begun.wait()
    second.move("minist", "canary", 1, "b", "quick")
    seen.append(second.change())
    thread.join()
    assert [entry.why for entry in first.audit("minist")[:2]] == ["quick", "slow"]
    assert second.change() == seen[0]


def test_corrections_keep_to_their_bound_in_8_processes(processes: list[Database]) -> None:
    memory = RecentPredictions(processes[0])
    for number in range(80):
        memory.remember(f"p{number}", "minist", 1, "1", bytes(784))
    memory.write()

    def correct(database: Database) -> int:
        kept, mine = 0, processes.index(database)
        for number in range(mine, 80, 8):
            try:
                Feedback(database, max_count=13, max_bytes=10**9).correct(f"p{number}", "7")
                kept += 1
            except FeedbackFull:
                continue
        return kept

    assert sum(at_once(processes, correct)) == 13  # type: ignore[arg-type]
    assert Feedback(processes[0], 13, 10**9).usage().bytes == 13 * 784


def test_events_of_jobs_that_are_committed_the_other_way_round_are_all_read(processes: list[Database]) -> None:
    queue = Queue(processes[0])
    jobs = [queue.submit(CONFIG, "never", 9, None).id for _ in range(2)]
    after = {job: queue.newest_event(job) for job in jobs}
    row = {"job_id": jobs[0], "kind": "note", "data": {}, "at": 1.0}
    with processes[1].write() as connection:
        connection.execute(insert(tables.events).values(**row))  # has the lower id
        queue.cancel(jobs[1])
        (found,) = queue.events_after(after, 10)
        after[found[0]] = found[1].id
    assert [(job, event.kind) for job, event in queue.events_after(after, 10)] == [(jobs[0], "note")]


def test_threads_that_wait_for_one_another_leave_connections_to_the_others(url: str, tmp_path: Path) -> None:
    with closing(Database(tmp_path, busy_seconds=2, url=url, connections=2)) as database:
        held = threading.Event()

        def hold() -> None:
            with database.write("versions"):
                held.set()
                time.sleep(0.5)

        def wait(_: int) -> None:
            with database.write("versions"):
                pass

        with ThreadPoolExecutor(20) as pool:
            first = pool.submit(hold)
            held.wait()
            others = [pool.submit(wait, number) for number in range(19)]
            begun = time.monotonic()
            assert count(database, "jobs") == 0
            assert time.monotonic() - begun < 0.4
            for future in (first, *others):
                future.result()


def test_too_many_at_once_get_an_error_in_time_that_says_so(url: str, tmp_path: Path) -> None:
    with (
        closing(Database(tmp_path, busy_seconds=0.3, url=url, connections=2)) as database,
        database.write(),
        database.write(),
        pytest.raises(OperationalError),
        database.read(),
    ):
        pass


def test_a_statement_that_waits_too_long_is_given_up(
    processes: list[Database], url: str, tmp_path: Path
) -> None:
    with (
        closing(Database(tmp_path, busy_seconds=0.3, url=url)) as database,
        processes[0].write("versions"),
        pytest.raises(OperationalError, match="timeout"),
        database.write("versions"),
    ):
        pass


# -- values ------------------------------------------------------------------------------------------


def test_texts_and_numbers_that_sqlite_takes_are_taken(processes: list[Database]) -> None:
    queue = Queue(processes[0])
    assert queue.get("\0") is None
    assert Keys(processes[0], None).identify("\0.\0") is None
    queue.submit({**CONFIG, "name": "minist", "why": "a\0b"}, "never", 9, None)
    job = queue.claim()
    assert job is not None
    queue.fail(job, "it said: \0" + "x" * 5000, 3221225477)  # an exit code of Windows
    failed = queue.get(job.id)
    assert failed is not None
    assert failed.error is not None
    assert failed.error.startswith("it said: \ufffdxxx")
    assert (failed.exit_code, failed.config["why"]) == (3221225477, "a\0b")
    with processes[0].write() as connection:
        connection.execute(
            insert(tables.audit).values(at=1.5, who="w" * 300, action="move", model="m" * 300, why="")
        )
        connection.execute(text("SELECT setval('predictions_number_seq', 5000000000)"))
    memory = RecentPredictions(processes[0])
    memory.remember("p", "minist", 1, "c" * 200, b"\0\xff" * 10)
    memory.write()
    assert Feedback(processes[0], 9, 999).correct("p", "7").pixels == b"\0\xff" * 10


def test_the_migrations_make_what_a_new_database_has(postgres: Server, tmp_path: Path) -> None:
    with closing(Database(tmp_path, url=postgres.database())) as database:
        with database.engines.schema_change() as connection:
            upgrade(connection, "0003")
        assert database.check() == ["the tables have revision 0003, not 0015: run 'minist db upgrade'"]
        database.migrate()
        assert database.check() == []
        with database.write() as connection:
            connection.execute(text("ALTER TABLE jobs DROP COLUMN beat"))
        assert "beat" in database.check()[0]
        assert "pg_dump" in next(problems(database.engines))
        with database.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(StoreError, match="newer minist"):
            database.migrate()


# -- from SQLite -------------------------------------------------------------------------------------


@pytest.fixture
def used(tmp_path: Path) -> Database:
    """A SQLite in which something of everything is kept."""
    home = Home.open(Settings(home=tmp_path, data_dir=SAMPLE))
    queue, database = home.queue, home.database
    home.keys.create("somebody", ["train", "predict"])
    for accuracy in (0.5, 0.75):
        queue.submit(CONFIG, "never", 99, None, feedback=True, submitter=Submitter("me", admin=True))
        job = queue.claim()
        assert job is not None
        for step in range(600):
            queue.step(job, {"step": step, "loss": 0.1 * step}) if step % 100 == 0 else None
        queue.epoch(job, {"epoch": 1, "accuracy": accuracy})
        queue.fail(job, "a text with \0, and ünïcode \U0001f600", -11)
    queue.forget([queue.page(None, 1, None)[0].id])  # ids of its events must not come again
    queue.submit(CONFIG, "never", 99, None)
    home.supervisors.beat("a")
    memory = RecentPredictions(database)
    for number in range(1200):
        memory.remember(f"p{number}", "minist", 1, "1", bytes([number % 256]) * 100)
        if number % 400 == 399:
            memory.write()
    home.feedback.correct("p7", "7")
    TrafficRows(database).begin("cnn", {"production": 90, "canary": 10}, "candidate", "me", "")
    with database.write() as connection:
        connection.execute(
            insert(tables.datasets).values(
                name="d", version=1, kind="table", options={"target": None, "limit": 1.5}, source="0" * 64,
                source_bytes=5 * 2**32, created_at=1234567890.123456, bytes=2**40, deleted=True,
            )
        )  # fmt: skip
        connection.execute(insert(tables.unloaded).values(model="cnn"))
        mine = {"model": "cnn", "version": 1}
        counts = {"labels": {"7": 2**40}, "confidence": [0] * 10 + [2**40], "warned": 0}
        connection.execute(insert(tables.answered).values(**mine, hour=490_000, images=2**40, counts=counts))
        connection.execute(insert(tables.drifted).values(**mine, since=1234567890.123456))
        connection.execute(insert(tables.rates).values(key="f" * 64, taken=2**40, ends=1234567890.0))
        files = {"": {"bytes": 2**40, "sha256": "0" * 64}}
        connection.execute(insert(tables.stored).values(prefix="d/1", place="d", files=files, since=1.5))
        connection.execute(
            insert(tables.deliveries).values(
                id="e" * 32, job_id=connection.scalar(select(tables.jobs.c.id)), url="https://example.org/done",
                event="failed", job={"status": "failed"}, attempts=2, next_at=1234567890.5,
            )
        )  # fmt: skip
        connection.execute(text("UPDATE jobs SET progress = '{\"loss\": NaN}' WHERE number = 1"))
    database.close()
    return database


def rows_of(database: Database) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    with database.read() as connection:
        for table in tables.metadata.sorted_tables:
            rows = [tuple(row) for row in connection.execute(select(table))]
            found[table.name] = sorted(rows, key=repr)
    return found


def test_every_row_is_copied_and_numbers_go_on(used: Database, postgres: Server, tmp_path: Path) -> None:
    before = rows_of(used)
    used.close()
    with closing(Database(tmp_path, url=postgres.database())) as target:
        told = copy(used, target)
        used.close()
        after = rows_of(target)
        assert told == {name: len(rows) for name, rows in before.items()}
        assert all(told.values())
        as_json = json.dumps(before, default=repr).replace("NaN", "null").replace('"\\u0000"', "")
        assert json.dumps(after, default=repr).replace("\\ufffd", "\\u0000") == as_json
        queue = Queue(target)
        with used.read() as connection:
            given = connection.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'events'"))
        made = queue.submit(CONFIG, "never", 99, None)
        assert made.number == 1 + max(job.number for job in Queue(used).page(None, 9, None))
        assert queue.newest_event(made.id) == given + 1
        used.close()
        with pytest.raises(StoreError, match="holds rows already"):
            copy(used, target)
    used.close()


def test_what_is_copied_while_a_process_uses_the_source_is_refused(
    used: Database, postgres: Server, tmp_path: Path
) -> None:
    with closing(Database(tmp_path, url=postgres.database())) as target:
        with used.read() as connection:
            connection.execute(select(tables.jobs)).all()
            with pytest.raises(StoreError, match="in use: stop the service first"):
                copy(used, target)
        used.close()
        with pytest.raises(StoreError, match="give the URL of a Postgres"):
            copy(used, used)


def test_a_row_that_is_lost_on_the_way_is_noticed_and_nothing_is_copied(
    used: Database, url: str, tmp_path: Path
) -> None:
    with closing(Database(tmp_path, url=url)) as target:
        with target.write() as connection:
            connection.execute(
                text(
                    "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS "
                    "$$BEGIN IF NEW.id = 'p800' THEN RETURN NULL; END IF; RETURN NEW; END$$"
                )
            )
            connection.execute(
                text("CREATE TRIGGER lose BEFORE INSERT ON predictions FOR EACH ROW EXECUTE FUNCTION lose()")
            )
        with pytest.raises(StoreError, match=r"predictions is not the same in Postgres \(1,199 of 1,200"):
            copy(used, target)
        assert count(target, "jobs") == count(target, "predictions") == 0
    used.close()


# -- the command line, and its URL -----------------------------------------------------------------------


def test_the_commands(
    used: Database,
    postgres: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MINIST_HOME", str(tmp_path))
    url = postgres.database()
    saved = tmp_path / "saved.db"
    for words in (["check"], ["backup", str(saved)]):
        assert main(["db", *words]) == 0
    assert main(["db", "backup", str(saved)]) == 1
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    monkeypatch.setattr(sys, "stdin", io.StringIO(url + "\n"))
    assert main(["db", "copy-to", "-"]) == 0
    assert main(["db", "copy-to", url]) == 1
    monkeypatch.setenv("MINIST_DATABASE_URL", url)
    assert [main(["db", "upgrade"]), main(["db", "check"]), main(["check"]), main(["keys", "list"])] == [0] * 4
    for words in (["db", "backup", "x"], ["backup", "x"], ["restore", "x"]):
        assert main(words) == 1
    said = capsys.readouterr()
    assert "copied and compared" in said.out
    assert "predictions: 1,200" in said.out
    assert "somebody" in said.out
    assert said.err.count("pg_dump") == 3
    assert PASSWORD not in said.out + said.err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("nonsense-hunter2", "cannot be read"),
        ("mysql://u:hunter2@h/d", "not of a Postgres"),
        ("postgresql://u:hunter2@h:port/d", "cannot be read"),
        ("postgresql://u:hun@ter2@h/d", "an @ too many"),
        ("postgresql://u:hunter2@h", "names no database"),
    ],
)
def test_a_url_that_is_none_is_told_without_it(
    wrong: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIST_HOME", str(tmp_path))
    monkeypatch.setenv("MINIST_DATABASE_URL", wrong)
    for words in (["db", "check"], ["keys", "list"], ["health", "worker"]):
        try:
            assert main(words) == 1
            told = ""
        except SystemExit as end:
            told = str(end)
        told += capsys.readouterr().err
        assert said in told
        assert "hunter2" not in told
        assert "ter2" not in told


def test_urls_of_hosts_are_understood() -> None:
    for text_ in ("postgres://u:p@h/d", "postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"):
        assert parse(text_).drivername == "postgresql+psycopg"
    assert (
        Postgres("postgresql:///d?host=/run/postgresql", 1, 2).name
        == "Postgres database 'd' at /run/postgresql"
    )


def test_the_password_is_shown_nowhere(
    postgres: Server,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MINIST_DATABASE_URL", url)
    settings = Settings(home=tmp_path)
    shown = [repr(settings), settings.model_dump_json(), str(settings.database_url)]
    wrong = url.replace(PASSWORD, "hunter2")
    for address, kind in ((wrong, StoreError), (url.replace(str(postgres.port), "1"), DatabaseAway)):
        with closing(Database(tmp_path, busy_seconds=2, url=address)) as database:
            with pytest.raises(kind) as error:
                database.migrate()
            shown += [str(error.value), repr(error.value.__cause__), database.name, repr(database.engines)]
    monkeypatch.setenv("MINIST_LEASE_SECONDS", "nonsense")
    with pytest.raises(ValueError, match="lease_seconds") as wrong_setting:
        Settings()
    shown.append(str(wrong_setting.value))
    assert main(["--help"]) == 0
    shown.append(capsys.readouterr().out)
    assert not [text_ for text_ in shown if PASSWORD in text_ or "hunter2" in text_]


def test_without_the_driver_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'minist\[postgres\]'"):
        Database(tmp_path, url="postgresql+psycopg://u:p@h/d")


def test_without_a_url_nothing_of_the_driver_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from app.home import Home; from app.settings import Settings; import app.main;"
        "Home.open(Settings()); sys.exit(any(name.startswith('psycopg') for name in sys.modules))"
    )
    environment = {**os.environ, "MINIST_HOME": str(tmp_path), "MINIST_DATA_DIR": str(SAMPLE)}
    environment.pop("MINIST_DATABASE_URL", None)
    assert subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=False).returncode == 0


def test_a_user_that_may_make_no_tables_is_told_so(postgres: Server, tmp_path: Path) -> None:
    url = postgres.database()
    with closing(Database(tmp_path, url=url)) as database, database.write() as connection:
        connection.execute(text("CREATE ROLE guest LOGIN PASSWORD 'guest'"))
    guest = url.replace(f"minist:{PASSWORD}", "guest:guest")
    with (
        closing(Database(tmp_path, url=guest)) as database,
        pytest.raises(StoreError, match="give the user a database of its own"),
    ):
        database.migrate()
