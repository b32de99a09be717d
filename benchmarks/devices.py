"""What a device does: forward passes of the shipped models, epochs of their recipes, seconds to 99 %.

    python -m benchmarks.devices [--device cuda] [--data-dir DIR] [--epochs 2]

On a GPU every figure waits until it has finished. An epoch is the last of `--epochs`: the first also loads
kernels. Own data are MNIST's images by the recipe `small-image`, which is for pictures of any classes.
"""

import argparse
import os
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from models.classifier import Classifier
from models.devices import choose_device
from training.datasets import Dataset, load_dataset
from training.evaluation import evaluate
from training.loop import Trainer
from training.recipes import RECIPES, Config
from training.run import card_of

WEIGHTS = Path(__file__).parent.parent / "models" / "weights"
MODELS = ("minist", "cnn", "digits", "fashion")
BATCHES = (1, 256, 10_000)
GENERATED = {"synthetic_images": 0, "written_images": 0, "unfamiliar_images": 0}  # the images of MNIST alone
GOAL = 0.99  # test accuracy


def forward(name: str, device: torch.device, rounds: int = 7) -> list[float]:
    """Images per second for each size of a batch, uint8 on the CPU to probabilities on the CPU; medians."""
    classifier = Classifier.load(WEIGHTS / f"{name}.pth", device)
    rates = []
    for size in BATCHES:
        images = torch.randint(0, 256, (size, 1, 28, 28), dtype=torch.uint8)
        classifier.probabilities(images)
        repeats = 50 if size == 1 else 1
        rates.append(
            size * repeats / median(_seconds(classifier.probabilities, images, repeats) for _ in range(rounds))
        )
    return rates


def _seconds(call: Callable[[torch.Tensor], object], images: torch.Tensor, repeats: int) -> float:
    begun = perf_counter()
    for _ in range(repeats):
        call(images)
    return perf_counter() - begun


def trainer_of(config: Config, dataset: Dataset, device: torch.device) -> Trainer:
    """On all training images but those that are held out."""
    train, validation = dataset.hold_out(config.validation_images, config.seed)
    return Trainer(config, train, len(dataset.classes), device, validation)


def epoch_seconds(config: Config, dataset: Dataset, device: torch.device, epochs: int) -> float:
    trainer = trainer_of(config, dataset, device)
    seconds = 0.0
    for _ in range(epochs):
        _wait(device)
        begun = perf_counter()
        trainer.run_epoch(lambda event: None)
        _wait(device)
        seconds = perf_counter() - begun
    return seconds


def seconds_to_goal(config: Config, dataset: Dataset, device: torch.device) -> tuple[float, int, float]:
    """Seconds of training alone, epochs and test accuracy, once that is 0.99 or the epochs are over."""
    trainer = trainer_of(config, dataset, device)
    classifier = Classifier(trainer.result, card_of(config, dataset, trainer.arguments), device)
    seconds, accuracy = 0.0, 0.0
    for epoch in range(1, (config.epochs or 1) + 1):
        _wait(device)
        begun = perf_counter()
        trainer.run_epoch(lambda event: None)
        _wait(device)
        seconds += perf_counter() - begun
        classifier.model.eval()
        accuracy = evaluate(classifier, dataset.test).metrics.accuracy
        if accuracy >= GOAL:
            return seconds, epoch, accuracy
    return seconds, config.epochs or 1, accuracy


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.devices", description="What a device does.")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("MINIST_DATA_DIR", "data")))
    parser.add_argument("--epochs", type=int, default=2, help="of each recipe; the last one is told")
    options = parser.parse_args()
    device = choose_device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    print(f"{device.type}: {name}, torch {torch.__version__}")
    print(f"images/s, in batches of {', '.join(f'{size:,}' for size in BATCHES)}")
    for model in MODELS:
        print(f"  {model:12} " + "  ".join(f"{rate:10,.0f}" for rate in forward(model, device)), flush=True)
    dataset = load_dataset("mnist", options.data_dir)
    print("seconds of an epoch of MNIST's 55,000 training images")
    for recipe in ("mlp", "cnn", "digits", "small-image"):
        config = RECIPES[recipe].config()
        config = config.model_copy(update=GENERATED)
        if recipe == "small-image":
            config = config.model_copy(update={"epochs": 4, "batch_size": 128, "mean": 0.5, "std": 0.5})
        print(f"  {recipe:12} {epoch_seconds(config, dataset, device, options.epochs):8.2f}", flush=True)
    config = RECIPES["cnn"].config(
        optimizer="adamw", schedule="one-cycle", lr=0.01, momentum=0, epochs=8, batch_size=512, ema_decay=0.99
    )
    seconds, epochs, accuracy = seconds_to_goal(config, dataset, device)
    print(f"cnn, batches of 512: {seconds:.1f} s to a test accuracy of {accuracy:.4f} in {epochs} epochs")


if __name__ == "__main__":
    main()
