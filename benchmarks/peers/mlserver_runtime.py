"""MLServer: the runtime that `model-settings.json` names. In the server's own process, adaptive batching."""

import base64

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers import mlp


class Digits(MLModel):
    async def load(self) -> bool:
        self.model = mlp.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = [mlp.decode(base64.b64decode(image)) for image in payload.inputs[0].data]
        rows = np.array(mlp.probabilities(self.model, images))
        output = NumpyCodec.encode_output("probabilities", rows)
        return InferenceResponse(model_name=self.name, outputs=[output])
