"""CPU seconds of training and evaluation: the tutorial's way against ours.

    python -m benchmarks.training [--rounds 3] [--recipes mlp cnn] [--data-dir DIR] [--check]

Each measurement is one epoch over all 60,000 images of MNIST and evaluations of its 10,000 test
images, in a process of its own: tutorial, ours, tutorial, ours, .. so that a busy minute of the
machine meets both. What counts is the CPU time of the process, on one torch thread; reading the data
files is left out.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, TypeVar

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from models.classifier import Classifier
from training.datasets import load_dataset
from training.evaluation import evaluate
from training.loop import Trainer
from training.recipes import RECIPES
from training.run import card_of

TRAINING_BARS = {"mlp": 3.3, "cnn": 2.2}
EVALUATION_BAR = 5.0
SAME_LOSS = 0.10  # the order of the images alone moves the mean loss of a first epoch by a few percent
EVALUATIONS = 3  # per process: a single one is lost in noise
ROOT = Path(__file__).parent.parent

Batches = Iterable[tuple[Tensor, Tensor]]
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """One process: CPU seconds, and what came out, to see that the work was the same."""

    epoch_seconds: float
    evaluation_seconds: float
    train_loss: float
    test_loss: float
    test_accuracy: float


@dataclass(frozen=True)
class Row:
    """A line of the table: medians of CPU seconds, and the ratio that is asked for."""

    what: str
    tutorial: float
    ours: float
    bar: float

    @property
    def ratio(self) -> float:
        return self.tutorial / self.ours

    def __str__(self) -> str:
        verdict = "" if self.ratio >= self.bar else " (missed)"
        return (
            f"| {self.what} | {self.tutorial:.2f} | {self.ours:.2f} "
            f"| {self.ratio:.1f}x | {self.bar:.1f}x{verdict} |"
        )


class TutorialMLP(nn.Module):
    """The fully connected network, as the tutorial has it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(784, 512)
        self.linear2 = nn.Linear(512, 256)
        self.linear3 = nn.Linear(256, 128)
        self.linear4 = nn.Linear(128, 64)
        self.linear5 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Any:
        x = x.view(-1, 784)
        x = F.relu(self.linear1(x))
        x = F.relu(self.linear2(x))
        x = F.relu(self.linear3(x))
        x = F.relu(self.linear4(x))
        return self.linear5(x)


class TutorialCNN(nn.Module):
    """The convolutional network, as the tutorial has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.pooling = nn.MaxPool2d(2)
        self.fc = nn.Linear(320, 10)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.pooling(self.conv1(x)))
        x = F.relu(self.pooling(self.conv2(x)))
        x = x.view(x.size(0), -1)
        return self.fc(x)


TUTORIAL_MODELS: dict[str, Callable[[], nn.Module]] = {"mlp": TutorialMLP, "cnn": TutorialCNN}


def measure_tutorial(recipe: str, data_dir: Path) -> Measured:
    """An epoch and evaluations by data set, transforms, DataLoader and a loop by hand."""
    torch.manual_seed(0)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train, test = (
        datasets.MNIST(str(data_dir), train=part, download=True, transform=transform) for part in (True, False)
    )
    train_loader = DataLoader(train, batch_size=64, shuffle=True)
    test_loader = DataLoader(test, batch_size=64, shuffle=False)
    model = TUTORIAL_MODELS[recipe]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)

    epoch_seconds, (train_loss, _) = cpu_seconds(lambda: tutorial_epoch(model, train_loader, optimizer))
    evaluation_seconds, (test_loss, test_accuracy) = cpu_seconds(
        lambda: tutorial_evaluation(model, test_loader), EVALUATIONS
    )
    return Measured(epoch_seconds, evaluation_seconds, train_loss, test_loss, test_accuracy)


def tutorial_epoch(model: nn.Module, batches: Batches, optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    """Mean loss and accuracy while it was learning."""
    criterion = nn.CrossEntropyLoss()
    running_loss, correct, total, steps = 0.0, 0, 0, 0
    model.train()
    for inputs, labels in batches:
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        _, predicted = torch.max(outputs.data, dim=1)
        correct += int((predicted == labels).sum().item())
        total += labels.size(0)
        steps += 1
    return running_loss / steps, correct / total


def tutorial_evaluation(model: nn.Module, batches: Batches) -> tuple[float, float]:
    """Mean loss and accuracy."""
    criterion = nn.CrossEntropyLoss(reduction="sum")
    loss, correct, total = 0.0, 0, 0
    model.eval()
    with torch.no_grad():
        for inputs, labels in batches:
            outputs = model(inputs)
            loss += criterion(outputs, labels).item()
            _, predicted = torch.max(outputs.data, dim=1)
            correct += int((predicted == labels).sum().item())
            total += labels.size(0)
    return loss / total, correct / total


def measure_ours(recipe: str, data_dir: Path) -> Measured:
    """The same by `training` and `models`."""
    config = RECIPES[recipe].config(validation_images=0, epochs=1, batch_size=64, threads=1)
    dataset = load_dataset("mnist", data_dir)
    device = torch.device("cpu")
    trainer = Trainer(config, dataset.train, len(dataset.classes), device)
    classifier = Classifier(trainer.model, card_of(config, dataset), device)

    epoch_seconds, (train_loss, _) = cpu_seconds(lambda: trainer.run_epoch(lambda event: None))
    trainer.model.eval()
    evaluation_seconds, test = cpu_seconds(lambda: evaluate(classifier, dataset.test).metrics, EVALUATIONS)
    return Measured(epoch_seconds, evaluation_seconds, train_loss, test.loss, test.accuracy)


SIDES = {"tutorial": measure_tutorial, "ours": measure_ours}


def cpu_seconds(work: Callable[[], T], times: int = 1) -> tuple[float, T]:
    """CPU seconds of this process for one `work`, all threads together, and what it returned."""
    begun = process_time()
    for _ in range(times):
        result = work()
    return (process_time() - begun) / times, result


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done, 1 with --check when a bar is missed or the work was not the same."""
    chosen = parse(arguments)
    if chosen.side:
        torch.set_num_threads(1)
        (recipe,) = chosen.recipes
        print(json.dumps(asdict(SIDES[chosen.side](recipe, chosen.data_dir))))
        return 0
    rows, remarks, same = [], [], True
    for recipe in chosen.recipes:
        tutorial, ours = interleaved(recipe, chosen.data_dir, chosen.rounds)
        rows += compare(recipe, tutorial, ours)
        remarks.append(f"{recipe}: {outcome('tutorial', tutorial)}; {outcome('ours', ours)}")
        same = same and same_work(tutorial, ours)
    report(rows, remarks, chosen.rounds)
    if not same:
        print("\nThe two did not reach the same: the times compare unequal work.")
    fine = same and all(row.ratio >= row.bar for row in rows)
    return 1 if chosen.check and not fine else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each side (default 3)")
    parser.add_argument("--recipes", nargs="+", choices=tuple(TRAINING_BARS), default=list(TRAINING_BARS))
    data_dir = Path(os.environ.get("MINIST_DATA_DIR", "data"))
    parser.add_argument("--data-dir", type=Path, default=data_dir, help="data set root (default %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed")
    # What the processes of the measurement are started with.
    parser.add_argument("--side", choices=tuple(SIDES), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def interleaved(recipe: str, data_dir: Path, rounds: int) -> tuple[list[Measured], list[Measured]]:
    """Tutorial and ours, one after the other, `rounds` times."""
    measured: dict[str, list[Measured]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in SIDES:
            one = measure_in_process(side, recipe, data_dir)
            measured[side].append(one)
            print(f"{recipe} {number + 1}/{rounds} {side}: {one.epoch_seconds:.2f} s", file=sys.stderr)
    return measured["tutorial"], measured["ours"]


def measure_in_process(side: str, recipe: str, data_dir: Path) -> Measured:
    words = ["--side", side, "--recipes", recipe, "--data-dir", str(data_dir.resolve())]
    command = [sys.executable, "-m", "benchmarks.training", *words]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def compare(recipe: str, tutorial: list[Measured], ours: list[Measured]) -> list[Row]:
    """The two lines of a recipe."""

    def row(what: str, seconds: Callable[[Measured], float], bar: float) -> Row:
        return Row(f"{recipe}, {what}", median(map(seconds, tutorial)), median(map(seconds, ours)), bar)

    return [
        row("one epoch, 60,000 images", lambda one: one.epoch_seconds, TRAINING_BARS[recipe]),
        row("evaluation, 10,000 images", lambda one: one.evaluation_seconds, EVALUATION_BAR),
    ]


def same_work(tutorial: list[Measured], ours: list[Measured]) -> bool:
    """Whether both learned the same in their epoch (seeded: every round has the same outcome)."""
    return abs(ours[0].train_loss / tutorial[0].train_loss - 1) <= SAME_LOSS


def outcome(side: str, measured: list[Measured]) -> str:
    one = measured[0]
    return f"{side} train loss {one.train_loss:.4f}, test accuracy {one.test_accuracy:.4f}"


def report(rows: list[Row], remarks: list[str], rounds: int) -> None:
    """The table, in Markdown."""
    print("| CPU seconds | tutorial | ours | ratio | required |\n|---|---:|---:|---:|---:|")
    print(*rows, sep="\n")
    print(f"\nMedians of {rounds} rounds; after one epoch:", *remarks, sep="\n- ")
    versions = (
        f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    )
    print(f"\n{versions}, {os.cpu_count()} CPUs, 1 torch thread.")


if __name__ == "__main__":
    sys.exit(main())
