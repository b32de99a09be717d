"""LitServe: `python -m benchmarks.peers.litserve_api PORT`. One worker, batches of what waits."""

import sys

import litserve
from fastapi import Request
from torch import Tensor

from benchmarks.peers import mlp


class Digits(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = mlp.load()

    def decode_request(self, request: Request) -> Tensor:
        return mlp.decode(request["file"].file.read())  # LitServe hands over the form

    def batch(self, inputs: list[Tensor]) -> list[Tensor]:
        return inputs

    def predict(self, images: list[Tensor]) -> list[list[float]]:
        return mlp.probabilities(self.model, images)

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        return output

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        return {"probabilities": output}


if __name__ == "__main__":
    api = Digits(max_batch_size=32, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False)
