"""TorchServe: the handler that its archive holds; the server hands it what waits, up to 32."""

from typing import Any

from ts.torch_handler.base_handler import BaseHandler

from benchmarks.peers import mlp


class Digits(BaseHandler):
    def initialize(self, context: Any) -> None:
        self.model = mlp.load()
        self.initialized = True

    def handle(self, data: list[dict[str, bytes]], context: Any) -> list[list[float]]:
        return mlp.probabilities(self.model, [mlp.decode(request["file"]) for request in data])
