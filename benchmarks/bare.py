"""What torch and uvicorn allow: an ASGI function for one request, and nothing that a service needs.

uvicorn benchmarks.bare:app --no-access-log

No limits, checks, counters, log, other formats or models: the upper bound that `benchmarks/serving.py` compares
with. Requests that arrive together share a forward pass.
"""

import asyncio
from pathlib import Path

import torch
from PIL import Image
from starlette.types import Receive, Scope, Send
from torch.nn import functional as F

from models.networks import MLP

WEIGHTS = Path(__file__).parent.parent / "models" / "weights"
MOST = 64  # images of a batch

torch.set_num_threads(1)
mlp = MLP().eval().requires_grad_(False)
mlp.load_state_dict(torch.load(WEIGHTS / "minist.pth", weights_only=True))
for weight in mlp.parameters():  # batches are multiplied faster by a transpose
    weight.data = weight.data.T.contiguous().T if weight.ndim == 2 else weight.data
waiting: list[tuple[bytes, asyncio.Future[list[float]]]] = []


def pixels(body: bytes) -> bytes:
    """Of the PNG in a form, whose image data are one chunk."""
    at = body.index(b"IDAT")
    length = int.from_bytes(body[at - 4 : at], "big")
    return Image.frombytes("L", (28, 28), body[at + 4 : at + 4 + length], "zip", "L", 0).tobytes()


def answer() -> None:
    batch = waiting[:MOST]
    del waiting[:MOST]
    if waiting:
        asyncio.get_running_loop().call_soon(answer)
    joined = bytearray(b"".join(image for image, _ in batch))
    with torch.inference_mode():
        x = (torch.frombuffer(joined, dtype=torch.uint8).view(-1, 784).float() / 255 - 0.1307) / 0.3081
        rows = F.softmax(mlp(x), 1).tolist()
    for (_, future), row in zip(batch, rows, strict=True):
        future.set_result(row)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http", scope["type"]
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[float]] = loop.create_future()
    if not waiting:
        loop.call_soon(answer)
    waiting.append((pixels(body), future))
    row = await future
    index = row.index(max(row))
    text = b'{"label":"%d","probabilities":[%b]}' % (index, b",".join([b"%.9g" % value for value in row]))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})
