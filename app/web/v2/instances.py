"""`POST /v1/models/NAME:predict`, as clients of TF Serving and Vertex AI ask: instances in, predictions out."""

import json

from anyio import CapacityLimiter, to_thread
from starlette.types import Receive

from app.serving.batching import Rows
from app.serving.encoding import most_probable
from app.serving.registry import ServedModel
from app.web.auth import Headers
from app.web.dependencies import Services
from app.web.prediction import find_routed
from app.web.v2.inference import INLINE_ROWS, V1, predicted

_WRITTEN_AT_ONCE = CapacityLimiter(2)


async def predict_instances(services: Services, model: str, headers: Headers, receive: Receive) -> bytes:
    """The JSON of the answer. Raises a RequestError, an ImageError, or ClientDisconnect."""
    served = await find_routed(services, model, headers)
    _, rows = await predicted(services, served, headers, receive, V1)
    if len(rows) <= INLINE_ROWS:
        return _encoded(served, rows)
    return await to_thread.run_sync(_encoded, served, rows, limiter=_WRITTEN_AT_ONCE)


def _encoded(served: ServedModel, rows: Rows) -> bytes:
    classes = served.classifier.card.classes
    form = f"[{','.join(['%.9g'] * len(classes))}]"
    predictions = ",".join([form % tuple(row) for row in rows])
    more = {
        "labels": [classes[most_probable(row)] for row in rows],
        "classes": classes,
        "model": served.name,
        "version": served.version,
    }
    return f'{{"predictions":[{predictions}],{json.dumps(more)[1:]}'.encode()
