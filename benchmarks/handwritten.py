"""What one writes by hand: FastAPI, UploadFile, Pillow, softmax. The measure of `benchmarks/serving.py`.

uvicorn benchmarks.handwritten:app
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import FastAPI, UploadFile
from PIL import Image
from torch import Tensor, nn

from models.networks import CNN, MLP

WEIGHTS = Path(__file__).parent.parent / "models" / "weights"


def load(model: nn.Module, name: str) -> nn.Module:
    model.load_state_dict(torch.load(WEIGHTS / f"{name}.pth", weights_only=True))
    return model.eval()


app = FastAPI()
mlp = load(MLP(), "minist")
cnn = load(CNN(), "cnn")


def pixels(data: bytes) -> Tensor:
    return scaled(Image.open(io.BytesIO(data)).convert("L"))


def scaled(image: Image.Image) -> Tensor:
    array = np.asarray(image, dtype=np.float32) / 255
    return (torch.from_numpy(array)[None, None] - 0.1307) / 0.3081


def answers(model: nn.Module, images: Tensor) -> list[dict[str, Any]]:
    with torch.no_grad():
        rows = model(images).softmax(dim=1).tolist()
    return [
        {"label": str(row.index(max(row))), "probabilities": {str(i): p for i, p in enumerate(row)}}
        for row in rows
    ]


@app.post("/def")
def predict_def(file: UploadFile) -> dict[str, Any]:
    return answers(mlp, pixels(file.file.read()))[0]


@app.post("/photograph")
def predict_photograph(file: UploadFile) -> dict[str, Any]:
    image = Image.open(io.BytesIO(file.file.read())).convert("L").resize((28, 28))
    return answers(mlp, scaled(image))[0]


@app.post("/async")
async def predict_async(file: UploadFile) -> dict[str, Any]:
    return answers(mlp, pixels(await file.read()))[0]


@app.post("/cnn-def")
def predict_cnn_def(file: UploadFile) -> dict[str, Any]:
    return answers(cnn, pixels(file.file.read()))[0]


@app.post("/cnn-async")
async def predict_cnn_async(file: UploadFile) -> dict[str, Any]:
    return answers(cnn, pixels(await file.read()))[0]


@app.post("/batch")
def predict_batch(files: list[UploadFile]) -> list[dict[str, Any]]:
    return answers(mlp, torch.cat([pixels(file.file.read()) for file in files]))
