"""Jobs notify those whom the deployment lists: what is sent, how often, and to whom never."""

import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import update
from starlette.testclient import TestClient

from app.cli import main
from app.jobs import webhooks
from app.jobs.deliveries import LONGEST_WAIT, MAX_ATTEMPTS, Deliveries, Delivery, wait
from app.jobs.facts import facts
from app.jobs.job import Job
from app.jobs.queue import Queue
from app.jobs.webhooks import Courier
from app.main import create_app
from app.origins import origins, split
from app.settings import Settings
from app.store.database import Database
from app.store.tables import deliveries as table
from tests.conftest import ADMIN, ADMIN_KEY, ROOT, SAMPLE
from tests.processes import free_port, service, supervisor_of, wait_for
from tests.receiver import Receiver, receiver

SECRET = "the-secret-of-the-tests"
CONFIG = {"name": "mine", "recipe": "mlp", "epochs": 3}
JOB = {"model": "mine", "recipe": "softmax-mnist", "epochs": 1, "validation_images": 100}


def verifier() -> Any:
    """The function of docs/webhooks.md."""
    found: dict[str, Any] = {}
    page = (ROOT / "docs" / "webhooks.md").read_text()
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.S)), found)
    return found["verified"]


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


def courier(queue: Queue, *listed: str, seconds: float = 0) -> Courier:
    return Courier(Deliveries(queue.database, lambda attempts: seconds), frozenset(listed), SECRET)


def ended(queue: Queue, url: str) -> Job:
    """A job that has failed, and notifies."""
    job = queue.submit(CONFIG, "never", limit=20, idempotency_key=None, notify=url)
    claimed = queue.claim()
    assert claimed is not None
    queue.fail(claimed, "it had to", 1)
    found = queue.get(job.id)
    assert found is not None
    return found


def latest(queue: Queue, job: Job) -> Delivery:
    found = Deliveries(queue.database).latest(job.id)
    assert found is not None
    return found


# -- what is sent ------------------------------------------------------------------------------------


def test_the_end_of_a_job_is_told_and_signed(queue: Queue, there: Receiver) -> None:
    job = ended(queue, there.origin + "/hook?token=7")
    sender = courier(queue, there.origin)
    assert sender.send_one()
    assert not sender.send_one()
    (one,) = there.got
    assert one.path == "/hook?token=7"
    assert one.headers["content-type"] == "application/json"
    assert one.json["event"] == "job.failed"
    assert one.json["job"] == facts(job)
    assert one.json["job"]["error"] == "it had to"
    assert one.headers["minist-delivery"] == one.json["id"] == latest(queue, job).id
    verified = verifier()
    signature = one.headers["minist-signature"]
    assert verified(SECRET, signature, one.body) == one.json
    for wrong in ((SECRET + "x", signature, one.body), (SECRET, signature, one.body + b" ")):
        with pytest.raises(ValueError, match="not signed"):
            verified(*wrong)
    with pytest.raises(ValueError, match="too old"):
        verified(SECRET, signature, one.body, time.time() + 3600)
    found = latest(queue, job)
    assert (found.last_status, found.attempts, found.next_at) == (200, 1, None)
    assert found.delivered_at is not None


def test_a_job_that_asks_for_nothing_notifies_nobody(queue: Queue) -> None:
    job = queue.submit(CONFIG, "never", limit=20, idempotency_key=None)
    queue.cancel(job.id)
    assert Deliveries(queue.database).latest(job.id) is None


def test_each_end_of_a_job_is_told_as_it_was(queue: Queue, there: Receiver) -> None:
    job = queue.submit(CONFIG, "never", limit=20, idempotency_key=None, notify=there.origin)
    queue.cancel(job.id)
    queue.resume(job.id, limit=20)
    claimed = queue.claim()
    assert claimed is not None
    queue.fail(claimed, "later", 1)
    sender = courier(queue, there.origin)
    assert sender.send_one()
    assert sender.send_one()
    assert [one.json["event"] for one in there.got] == ["job.cancelled", "job.failed"]
    assert [one.json["job"]["status"] for one in there.got] == ["cancelled", "failed"]


def test_two_supervisors_do_not_send_the_same(queue: Queue, there: Receiver) -> None:
    for _ in range(4):
        ended(queue, there.origin)
    senders = [courier(queue, there.origin, seconds=60) for _ in range(4)]
    threads = [threading.Thread(target=lambda one=one: [one.send_one() for _ in range(8)]) for one in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(there.got) == len({one.json["id"] for one in there.got}) == 4


def test_a_deleted_job_takes_its_deliveries_along(queue: Queue, there: Receiver) -> None:
    job = ended(queue, there.origin)
    queue.forget([job.id])
    assert Deliveries(queue.database).latest(job.id) is None
    assert not courier(queue, there.origin).send_one()


# -- when it does not arrive -------------------------------------------------------------------------


def test_a_receiver_that_is_down_is_told_when_it_is_up(queue: Queue) -> None:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    job = ended(queue, origin)
    sender = courier(queue, origin)
    assert sender.send_one()
    assert (latest(queue, job).last_status, latest(queue, job).delivered_at) == (None, None)
    with receiver(port) as there:
        assert sender.send_one()
        assert len(there.got) == 1
    assert latest(queue, job).attempts == 2
    assert latest(queue, job).delivered_at


def test_errors_are_tried_again_and_2xx_is_enough(queue: Queue, there: Receiver) -> None:
    there.statuses += [500, 429, 404, 204]
    job = ended(queue, there.origin)
    sender = courier(queue, there.origin)
    assert [sender.send_one() for _ in range(5)] == [True] * 4 + [False]
    assert latest(queue, job).last_status == 204
    assert len({one.json["id"] for one in there.got}) == 1


@pytest.mark.parametrize("status", [301, 303, 307, 308])
def test_a_redirect_is_not_followed(queue: Queue, there: Receiver, status: int) -> None:
    there.statuses.append(status)
    there.location = there.origin + "/elsewhere"
    job = ended(queue, there.origin + "/hook")
    courier(queue, there.origin, seconds=60).send_one()
    assert [one.path for one in there.got] == ["/hook"]
    assert (latest(queue, job).last_status, latest(queue, job).delivered_at) == (status, None)


def test_gone_is_given_up_at_once(queue: Queue, there: Receiver) -> None:
    there.statuses.append(410)
    job = ended(queue, there.origin)
    sender = courier(queue, there.origin)
    assert [sender.send_one(), sender.send_one()] == [True, False]
    assert latest(queue, job).given_up_at


def test_it_is_given_up_after_the_last_attempt(
    queue: Queue, there: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    there.statuses += [503] * (MAX_ATTEMPTS + 1)
    job = ended(queue, there.origin)
    sender = courier(queue, there.origin)
    with caplog.at_level(logging.WARNING, "minist.webhooks"):
        while sender.send_one():
            pass
    found = latest(queue, job)
    assert (found.attempts, found.last_status, found.next_at) == (MAX_ATTEMPTS, 503, None)
    assert found.given_up_at
    assert "given up" in caplog.text
    assert "secret of the receiver" not in caplog.text
    assert Deliveries(queue.database).counts() == {"waiting": 0, "delivered": 0, "given_up": 1}


def test_the_attempts_spread_over_a_day() -> None:
    waits = [wait(attempts) for attempts in range(1, MAX_ATTEMPTS)]
    assert waits[0] > webhooks.ATTEMPT_SECONDS
    assert waits == sorted(waits)
    assert 22 * 3600 < sum(waits) < 24 * 3600


def test_a_receiver_that_answers_slowly_is_left(
    queue: Queue, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "ATTEMPT_SECONDS", 0.3)
    there.hangs = threading.Event()
    job = ended(queue, there.origin)
    begun = time.monotonic()
    courier(queue, there.origin, seconds=60).send_one()
    assert time.monotonic() - begun < 5
    there.hangs.set()
    assert latest(queue, job).last_status is None
    assert latest(queue, job).delivered_at is None


def test_an_answer_without_end_is_not_read(queue: Queue, there: Receiver) -> None:
    there.answer = bytes(50_000_000)
    job = ended(queue, there.origin)
    courier(queue, there.origin).send_one()
    assert latest(queue, job).delivered_at


def test_what_is_not_http_is_no_answer(queue: Queue) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        origin = f"http://127.0.0.1:{server.getsockname()[1]}"
        job = ended(queue, origin)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"220 mail\r\n\0\xff")

        thread = threading.Thread(target=answer)
        thread.start()
        courier(queue, origin, seconds=60).send_one()
        thread.join()
    assert latest(queue, job).last_status is None


def test_a_proxy_of_the_environment_is_not_used(
    queue: Queue, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    ended(queue, there.origin)
    courier(queue, there.origin).send_one()
    assert len(there.got) == 1


def test_an_origin_that_is_not_listed_any_more_gets_nothing(queue: Queue, there: Receiver) -> None:
    job = ended(queue, there.origin)
    assert courier(queue, "https://example.org").send_one()
    assert not there.got
    assert latest(queue, job).given_up_at


def test_a_clock_that_is_set_back_delays_nothing(queue: Queue, there: Receiver) -> None:
    job = ended(queue, there.origin)
    with queue.database.write() as connection:
        connection.execute(update(table).values(next_at=time.time() + 3 * LONGEST_WAIT))
    assert courier(queue, there.origin).send_one()
    assert latest(queue, job).delivered_at


# -- which URLs --------------------------------------------------------------------------------------

LISTED = "https://example.org, http://127.0.0.1:9000,https://[::1]:8443/"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://example.org", "https://example.org"),
        ("https://example.org/a/b?c=d&e=%20", "https://example.org"),
        ("HTTPS://EXAMPLE.ORG/Hook", "https://example.org"),
        ("https://example.org:443/", "https://example.org"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("https://[0:0:0:0:0:0:0:1]:8443/x", "https://[::1]:8443"),
    ],
)
def test_an_origin_is_known_in_every_spelling(url: str, origin: str) -> None:
    assert split(url)[0] == origin
    assert origin in origins(LISTED)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "https://example.org:8443/",
        "https://example.org:80/",
        "https://sub.example.org/",
        "https://example.org.evil.com/",
        "https://example.org./",
        "https://example.org@evil.com/",
        "https://evil.com/@example.org",
        "https://evil.com#@example.org/",
        "https://example.org:443@evil.com/",
        "https://user:pass@example.org/",
        "https://@example.org/",
        "https://example.org\\@evil.com/",
        "https://evil.com\\.example.org/",
        "https://example.org%2eevil.com/",
        "https://example.org%00.evil.com/",
        "https://example.org\n.evil.com/",
        "https://example.org/\r\nx: y",
        "https://example.org/a b",
        " https://example.org/",
        "https://example.org\n",
        "https:/example.org/",
        "https:///example.org/",
        "//example.org/",
        "https:example.org",
        "https://ex\u0430mple.org/",
        "https://\uff45xample.org/",
        "https://example.org:/",
        "https://example.org:0443x/",
        "https://example.org:99999/",
        "https://example.org:0/",
        "http://127.1:9000/",
        "http://2130706433:9000/",
        "http://0x7f.0.0.1:9000/",
        "http://127.0.0.1:9001/",
        "http://[::ffff:127.0.0.1]:9000/",
        "https://[::1]:443/",
        "https://[::1%25lo]:8443/",
        "https://[::1/",
        "https://[:::1]:8443/",
        "file:///etc/passwd",
        "ftp://example.org/",
        "gopher://example.org/",
        "https://example.org/#x",
        "https://example.org/" + "a" * 2048,
        "https://",
        "",
    ],
)
def test_what_only_looks_like_a_listed_origin_is_none(url: str) -> None:
    with suppress(ValueError):
        assert split(url)[0] not in origins(LISTED)


# -- settings ----------------------------------------------------------------------------------------


def test_origins_need_a_secret() -> None:
    with pytest.raises(ValidationError, match="MINIST_WEBHOOK_ORIGINS needs it"):
        Settings(webhook_origins="https://example.org")
    with pytest.raises(ValidationError, match="16 characters"):
        Settings(webhook_origins="https://example.org", webhook_secret=SecretStr("short"))
    with pytest.raises(ValidationError, match=r"write https://example\.org"):
        Settings(webhook_origins="https://example.org/hook", webhook_secret=SecretStr(SECRET))
    with pytest.raises(ValidationError, match="it is no URL"):
        Settings(webhook_origins="*", webhook_secret=SecretStr(SECRET))


def test_a_missing_secret_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIST_HOME", str(tmp_path))
    monkeypatch.setenv("MINIST_WEBHOOK_ORIGINS", "https://example.org")
    with pytest.raises(SystemExit) as ended:
        main(["serve", "worker"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: MINIST_WEBHOOK_SECRET: ")


# -- over HTTP ---------------------------------------------------------------------------------------


def settings(home: Path, **changes: Any) -> Settings:
    key = SecretStr(ADMIN_KEY)
    return Settings(home=home, data_dir=SAMPLE, device="cpu", api_key=key, **changes)


def test_the_request_names_a_listed_origin_and_the_job_shows_how_it_went(
    tmp_path: Path, there: Receiver
) -> None:
    listed = settings(tmp_path, webhook_origins=there.origin, webhook_secret=SecretStr(SECRET))
    with TestClient(create_app(listed), headers=ADMIN) as api:
        for url in ("http://127.0.0.1:1/", "http://user@127.0.0.1/", "x" * 3000):
            refused = api.post("/train", json={**JOB, "notify": url})
            assert refused.status_code == 422, url
        assert (
            "MINIST_WEBHOOK_ORIGINS" in api.post("/train", json={**JOB, "notify": "http://a.b"}).json()["hint"]
        )
        answer = api.post("/train", json={**JOB, "notify": there.origin + "/hook?token=private"})
        assert answer.status_code == 202, answer.text
        assert answer.json()["notify"]["event"] is None
        path = f"/train/{answer.json()['id']}"
        api.delete(path)
        queue = api.app_state["services"].queue
        there.statuses += [500, 410]
        sender = courier(queue, there.origin)
        sender.send_one()
        waiting = api.get(path).json()["notify"]
        assert (waiting["event"], waiting["attempts"], waiting["last_status"]) == ("job.cancelled", 1, 500)
        assert waiting["next_at"]
        sender.send_one()
        shown = api.get(path)
        assert shown.json()["notify"]["given_up_at"]
        assert "private" not in shown.text
        told = there.got[0].json["job"]
        assert told == {name: shown.json()[name] for name in told}
        assert 'minist_deliveries{state="given_up"} 1.0' in api.get("/metrics").text


def test_the_same_key_with_another_receiver_is_another_request(tmp_path: Path) -> None:
    listed = settings(tmp_path, webhook_origins="http://a.example", webhook_secret=SecretStr(SECRET))
    with TestClient(create_app(listed), headers={**ADMIN, "idempotency-key": "k"}) as api:
        first = api.post("/train", json={**JOB, "notify": "http://a.example/1"})
        assert (
            api.post("/train", json={**JOB, "notify": "http://A.example:80/1"}).json()["id"]
            == first.json()["id"]
        )
        assert api.post("/train", json={**JOB, "notify": "http://a.example/2"}).status_code == 422


def test_imports_and_uploads_notify_too(tmp_path: Path, there: Receiver) -> None:
    listed = settings(tmp_path, webhook_origins=there.origin, webhook_secret=SecretStr(SECRET))
    hook, elsewhere = there.origin + "/hook?token=private", "http://127.0.0.1:1/"
    table = {"file": ("rows.csv", b"a,b\n1,x\n2,y\n")}
    weights = {"weights": ("net.pth", b"no weights")}
    with TestClient(create_app(listed), headers=ADMIN) as api:
        for path, files in (("/datasets?name=rows", table), ("/models/net/versions?wait=0", weights)):
            assert api.post(path, files=files, data={"notify": elsewhere}).status_code == 422
            assert api.post(path, files=files, params={"notify": elsewhere}).status_code == 422
        imported = api.post("/datasets?name=rows", files=table, data={"notify": hook})
        uploaded = api.post("/models/net/versions", params={"wait": 0, "notify": hook}, files=weights)
        queue = api.app_state["services"].queue
        jobs = (imported.json()["job"], uploaded.json()["job"]["id"])
        for kind, job in zip(("import", "weights"), jobs, strict=True):
            assert api.get(f"/train/{job}").json()["notify"]["origin"] == there.origin
            queue.fail(queue.claim(kind=kind), "it had to", 1)
            assert courier(queue, there.origin).send_one()
            told = there.got[-1]
            assert (told.path, told.json["event"]) == ("/hook?token=private", "job.failed")
            assert (told.json["job"]["id"], told.json["job"]["kind"]) == (job, kind)
            assert verifier()(SECRET, told.headers["minist-signature"], told.body) == told.json


def test_an_import_that_is_tried_again_tells_whom_the_last_request_names(
    tmp_path: Path, there: Receiver
) -> None:
    listed = settings(tmp_path, webhook_origins=there.origin, webhook_secret=SecretStr(SECRET))
    table = {"file": ("rows.csv", b"a,b\n1,x\n2,y\n")}
    with TestClient(create_app(listed), headers=ADMIN) as api:
        job = api.post("/datasets?name=rows", files=table).json()["job"]
        api.delete(f"/train/{job}")
        again = api.post("/datasets?name=rows", files=table, data={"notify": there.origin + "/again"})
        assert again.json()["job"] == job
        api.delete(f"/train/{job}")
        queue = api.app_state["services"].queue
        assert courier(queue, there.origin).send_one()
        assert not courier(queue, there.origin).send_one()
    assert [one.path for one in there.got] == ["/again"]


def test_without_origins_nobody_is_notified(tmp_path: Path) -> None:
    with TestClient(create_app(settings(tmp_path)), headers=ADMIN) as api:
        refused = api.post("/train", json={**JOB, "notify": "https://example.org/"})
        assert refused.status_code == 422
        assert "MINIST_WEBHOOK_ORIGINS" in refused.json()["hint"]


def test_a_supervisor_that_dies_before_it_tells_is_followed_by_one_that_does(tmp_path: Path) -> None:
    """Killed while the receiver is away; the job's end and what is to be told of it are in the database."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    with service(
        tmp_path,
        MINIST_WEBHOOK_ORIGINS=origin,
        MINIST_WEBHOOK_SECRET=SECRET,
        MINIST_LOG_LEVEL="debug",
    ) as (process, client):
        job = (
            client.post("/train", json={**JOB, "notify": f"{origin}/hook?token=private"})
            .raise_for_status()
            .json()
        )
        path = f"/train/{job['id']}"
        wait_for(lambda: client.get(path).json()["notify"]["attempts"] == 1)
        os.kill(supervisor_of(process), signal.SIGKILL)
        assert client.get(path).json()["status"] == "succeeded"
        with (
            closing(Database(tmp_path)) as database,
            database.write() as connection,
        ):  # its turn comes now, not in half a minute
            connection.execute(update(table).values(next_at=time.time()))
        with receiver(port) as there:
            wait_for(lambda: client.get(path).json()["notify"]["delivered_at"])
            assert [one.json["event"] for one in there.got] == ["job.succeeded"]
            (one,) = there.got
            assert verifier()(SECRET, one.headers["minist-signature"], one.body)["job"]["version"] == 1
            log = tmp_path / "service.log"
            wait_for(lambda: f"{origin} was told" in log.read_text())
            assert "private" not in log.read_text()
