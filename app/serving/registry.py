"""The models that are served: which classifier answers for which name.

`NAME` is the version that the alias `production` points at, `NAME@3` a version, `NAME@alias` another alias.
The table of names is replaced as a whole when an alias moves, so a request sees one version or the other;
one in flight keeps the classifier that it has.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

import torch

from app.errors import UnknownModel
from app.serving.encoding import PredictionEncoder
from app.store.versions import PRODUCTION, Snapshot, Version, Versions
from app.telemetry.counters import Counters
from models.card import Shape
from models.classifier import Classifier
from models.errors import CheckpointError, ModelError
from models.inference import InferenceModel

log = logging.getLogger("minist.registry")

KEPT = 8  # classifiers that no alias points at: asked for by number, or until lately pointed at


@dataclass(frozen=True)
class ServedModel:
    """One version of a model, ready to be asked; `predicted` counts its answers by class."""

    name: str
    version: int
    classifier: Classifier
    forward: InferenceModel
    answers: PredictionEncoder
    predicted: list[int]

    @property
    def input_shape(self) -> Shape:
        return self.classifier.card.input_shape


class Registry:
    """Names to classifiers, kept up to date by `refresh`."""

    def __init__(self, versions: Versions, default: str, device: torch.device, counters: Counters) -> None:
        self.default = default
        self.device = device
        self._versions = versions
        self._counters = counters
        self._names: Mapping[str, ServedModel] = {}
        self._loaded: OrderedDict[tuple[str, int], ServedModel] = OrderedDict()
        self.snapshot = Snapshot(-1, {}, {})
        self._refreshing = Lock()
        self._quickening = Lock()

    @property
    def models(self) -> list[ServedModel]:
        """What each bare name means, by name."""
        return [self._names[name] for name in sorted(self._names) if "@" not in name]

    def start(self) -> None:
        """Load the default model, to answer soon; `refresh` loads the others.

        Raises CheckpointError where there is none.
        """
        snapshot = self._versions.snapshot()
        number = snapshot.aliases.get((self.default, PRODUCTION))
        if number is None:
            known = ", ".join(sorted(model for model, alias in snapshot.aliases if alias == PRODUCTION))
            raise CheckpointError(
                f"there is no default model {self.default!r}: set MINIST_DEFAULT_MODEL to one of {known}"
            )
        served = self._load(snapshot.versions[self.default, number])
        self._names = {self.default: served, f"{self.default}@{PRODUCTION}": served}

    def refresh(self) -> bool:
        """Load what has changed since the last time; whether anything had. Reads the database and files."""
        with self._refreshing:
            return self._refresh()

    def _refresh(self) -> bool:
        if self._versions.change() == self.snapshot.change:
            return False
        snapshot = self._versions.snapshot()
        loaded = {(served.name, served.version): served for served in self._names.values()} | self._loaded
        names: dict[str, ServedModel] = {}
        for (model, alias), number in snapshot.aliases.items():
            try:
                served = loaded.get((model, number)) or self._load(snapshot.versions[model, number])
            except (ModelError, KeyError) as error:
                # a broken version must not take down the one that answers now
                log.error("version %d of %s cannot be served: %s", number, model, error)
                before = self._names.get(f"{model}@{alias}")
                if before is None:
                    continue
                served = before
            loaded[model, number] = names[f"{model}@{alias}"] = served
            if alias == PRODUCTION:
                names[model] = served
        self._names, self.snapshot = names, snapshot
        self._loaded = OrderedDict((key, served) for key, served in loaded.items() if key in snapshot.versions)
        self._forget()
        return True

    def freeze(self) -> None:
        """Give every classifier its quickest form; not done while loading, so that the service is up sooner."""
        with self._quickening:
            for served in self.models:
                served.forward.freeze()

    def get(self, name: str | None) -> ServedModel | None:
        """The classifier that a name means, if it is loaded."""
        return self._names.get(self.default if name is None else name)

    def find(self, name: str | None) -> ServedModel:
        """The classifier that a name means, read from disk if need be. Raises UnknownModel."""
        served = self.get(name)
        if served is None:
            self.refresh()  # it may be new, or not loaded yet
            served = self.get(name)
        if served is not None:
            return served
        assert name is not None
        model, _, number = name.partition("@")
        key = (model, int(number)) if number.isdecimal() and len(number) < 10 else (model, 0)
        version = self.snapshot.versions.get(key)
        if version is None:
            raise UnknownModel(f"there is no model {name!r}", f"ask for one of {', '.join(self._known(model))}")
        with self._refreshing:
            served = self._loaded.get(key) or self._load(version)
            self._loaded[key] = served
            self._loaded.move_to_end(key)
            self._forget()
        return served

    def _forget(self) -> None:
        pointed = {(served.name, served.version) for served in self._names.values()}
        spare = [key for key in self._loaded if key not in pointed]
        for key in spare[: max(0, len(spare) - KEPT)]:
            del self._loaded[key]

    def _known(self, model: str) -> list[str]:
        """What may be asked for: of that model, or the models."""
        mine = [f"{model}@{version}" for name, version in self.snapshot.versions if name == model]
        mine += [f"{model}@{alias}" for name, alias in self.snapshot.aliases if name == model]
        return mine or [served.name for served in self.models]

    def _load(self, version: Version) -> ServedModel:
        classifier = Classifier.load(version.weights, self.device)
        classes = classifier.card.classes
        return ServedModel(
            version.model,
            version.version,
            classifier,
            InferenceModel(classifier),
            PredictionEncoder(version.model, version.version, classes),
            self._counters.labels_of(version.model, version.version, classes),
        )
