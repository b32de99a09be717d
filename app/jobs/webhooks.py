"""Tells the receivers of deliveries: signed POSTs to origins that the deployment has listed, and to no others.

Nothing is followed, read or kept of an answer but its status.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import OperationalError

from app.jobs.deliveries import Deliveries, Delivery
from app.origins import split
from app.store.errors import reason
from app.store.postgres_values import plain

log = logging.getLogger("minist.webhooks")

ATTEMPT_SECONDS = 10.0  # of name resolution, connection, request and head of the answer together
POLL_SECONDS, RETRY_SECONDS, STOP_SECONDS = 1.0, 5.0, 0.2
GONE = 410


def signature(secret: str, moment: int, body: bytes) -> str:
    """Of a body that is sent at a moment, in seconds since the epoch: `t=MOMENT,v1=HEX`."""
    digest = hmac.new(secret.encode(), b"%d." % moment + body, hashlib.sha256)
    return f"t={moment},v1={digest.hexdigest()}"


def body_of(delivery: Delivery, moment: int) -> bytes:
    """The JSON that is sent."""
    of_job = delivery.job_id is not None
    found: dict[str, Any] = {
        "event": f"job.{delivery.event}" if of_job else delivery.event,
        "id": delivery.id,
        "sent_at": datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z"),
        "job" if of_job else delivery.event.partition(".")[0]: plain(delivery.job),
    }
    return json.dumps(found, allow_nan=False).encode()


@dataclass
class Courier:
    """Sends what is due, one after the other, until `stop`; several on one database share the work."""

    deliveries: Deliveries
    origins: frozenset[str]
    secret: str
    kind: str = "webhooks"
    stopping: bool = field(default=False, init=False)
    _away: bool = field(default=False, init=False)  # the database does not answer, and that was said

    def stop(self) -> None:
        """End soon: within an attempt."""
        self.stopping = True

    def run(self, alive: Callable[[], bool] = lambda: True) -> None:
        """Until `stop`, or until `alive` is false. Whatever goes wrong is logged, and tried again."""
        while not self.stopping and alive():
            try:
                pause = 0.0 if self.send_one() else POLL_SECONDS
                self._away = False
            except OperationalError as error:
                if not self._away:
                    log.error("the database does not answer: %s", reason(error))
                self._away, pause = True, RETRY_SECONDS
            except Exception:
                log.exception("a notification could not be sent; the next turn is in %g s", RETRY_SECONDS)
                pause = RETRY_SECONDS
            self._pause(pause)

    def _pause(self, seconds: float) -> None:
        """Sleep, but not after `stop`."""
        until = time.monotonic() + seconds
        while not self.stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(STOP_SECONDS, left))

    def send_one(self) -> bool:
        """Make one attempt of what is due; whether there was any."""
        delivery = self.deliveries.claim()
        if delivery is None:
            return False
        origin = split(delivery.url)[0]
        if origin not in self.origins:  # it was, when the job came
            self._failed(delivery, f"{origin} is not in MINIST_WEBHOOK_ORIGINS any more", None, for_ever=True)
            return True
        try:
            status = asyncio.run(self._post(delivery))
        except (OSError, TimeoutError, NoAnswer) as error:
            self._failed(delivery, f"no answer ({error or type(error).__name__})", None)
            return True
        if 200 <= status < 300:
            self.deliveries.delivered(delivery, status)
            log.info("%s: %s was told", _subject(delivery), origin)
        else:
            self._failed(delivery, f"{origin} answers {status}", status, for_ever=status == GONE)
        return True

    def _failed(self, delivery: Delivery, why: str, status: int | None, for_ever: bool = False) -> None:
        last = self.deliveries.failed(delivery, status, for_ever)
        then = "it is given up" if last else "it is tried again"
        log.warning("%s: attempt %d to notify: %s; %s", _subject(delivery), delivery.attempts, why, then)

    async def _post(self, delivery: Delivery) -> int:
        """The status of the answer, whose body is left unread. Raises NoAnswer or TimeoutError."""
        import httpx2  # here: most deployments notify nobody

        moment = int(time.time())
        body = body_of(delivery, moment)
        headers = {
            "content-type": "application/json",
            "user-agent": "minist",
            "minist-delivery": delivery.id,
            "minist-signature": signature(self.secret, moment, body),
        }
        context = httpx2.create_ssl_context()  # the system's, or SSL_CERT_FILE; no proxy of the environment
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):  # httpx2's timeouts are between two bytes
                async with (
                    httpx2.AsyncClient(verify=context, trust_env=False, timeout=ATTEMPT_SECONDS) as client,
                    client.stream("POST", delivery.url, content=body, headers=headers) as response,
                ):
                    return response.status_code
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise NoAnswer(type(error).__name__) from error


def _subject(delivery: Delivery) -> str:
    return delivery.event if delivery.job_id is None else f"job {delivery.job_id}"


class NoAnswer(Exception):
    """There was no answer of HTTP."""
