"""MLServer: the runtime that `model-settings.json` names. In the server's own process, adaptive batching."""

import base64

import numpy as np
import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers import mlp


class Digits(MLModel):
    async def load(self) -> bool:
        self.model = mlp.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = payload.inputs[0]
        if given.name == "input":
            images = [(torch.from_numpy(NumpyCodec.decode_input(given).copy()) - 0.1307) / 0.3081]
        else:
            images = [mlp.decode(base64.b64decode(image)) for image in given.data]
        rows = np.array(mlp.probabilities(self.model, images))
        output = NumpyCodec.encode_output("probabilities", rows)
        return InferenceResponse(model_name=self.name, outputs=[output])
