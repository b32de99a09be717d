"""What happens now, for operators."""

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from app import errors
from app.web import problems
from app.web.dependencies import AUTH_ERRORS, MayAdminister, ServicesDep
from app.web.live import LiveStream
from app.web.live_body import MomentBody

router = APIRouter(prefix="/live", tags=["status"])


@router.get("", summary="What happens now?", responses=problems.responses(*AUTH_ERRORS))
async def show(services: ServicesDep, identity: MayAdminister) -> MomentBody:
    """Rates, latencies, the queue, errors by kind, what models answer beside their test sets, the last requests
    (without bodies), jobs, disk, workers, database and work in the background: of all processes of the machine
    that answers, measured for a second. Needs a key of scope `admin`."""
    return await services.live.once()


@router.get(
    "/events",
    summary="Watch what happens now",
    response_class=StreamingResponse,
    responses={
        200: {"description": "server-sent events", "content": {"text/event-stream": {}}},
        **problems.responses(*AUTH_ERRORS, errors.Overloaded),
    },
)
async def watch(services: ServicesDep, identity: MayAdminister) -> Response:
    """Server-sent events `live`, one a second: each is what `GET /live` answers. At most 20 clients of a
    process."""
    return LiveStream(services.live, services.live.join())
