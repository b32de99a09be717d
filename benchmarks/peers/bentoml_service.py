"""BentoML: `bentoml serve benchmarks.peers.bentoml_service:Digits`. One worker, adaptive batching."""

import bentoml
from PIL.Image import Image

from benchmarks.peers import mlp


@bentoml.service(workers=1)
class Digits:
    def __init__(self) -> None:
        self.model = mlp.load()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    def predict(self, file: list[Image]) -> list[list[float]]:
        return mlp.probabilities(self.model, [mlp.pixels(image) for image in file])
