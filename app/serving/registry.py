"""The models that are served: which classifier answers for which name.

`NAME` is the version that the alias `production` points at, `NAME@3` a version, `NAME@alias` another alias.
The table of names is replaced as a whole when an alias moves, so a request sees one version or the other;
one in flight keeps the classifier that it has.

A version that cannot be loaded does not take down the name that means it: what answered before goes on, or else
the nearest version that can be loaded. It is tried again, less and less often.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock

import torch

from app.errors import DamagedModel, StorageTrouble, UnknownModel, UnloadedModel, WrongContentType
from app.serving.batching import MAX_BATCH_ROWS, MAX_BATCH_SIZE, Rows
from app.serving.damage import DamagedVersions
from app.serving.decoding.tables import JSON, TABLES, example
from app.serving.encoding import PredictionEncoder
from app.serving.split import Split
from app.store.errors import ArtifactsAway
from app.store.shipped import shipped_version
from app.store.versions import PRODUCTION, Snapshot, Version, Versions
from app.telemetry.counters import Answers, Counters
from models.arguments import nearest
from models.classifier import Classifier
from models.errors import CheckpointError
from models.inference import InferenceModel
from models.tables import TableInput
from models.verification import load_verified

log = logging.getLogger("minist.registry")

HEAVY = 0.005  # seconds of a forward pass that the event loop does not bear
TOLD = 50  # names of models in a message
KEPT = 8  # classifiers that no alias points at: asked for by number, or until lately pointed at


@dataclass(frozen=True)
class ServedModel:
    """One version of a model, ready to be asked; `counted` counts its answers.

    `heavy_seconds` is what an image takes of a model that must not run in the event loop; 0 for others.
    """

    name: str
    version: int
    classifier: Classifier
    forward: InferenceModel
    answers: PredictionEncoder
    counted: Answers
    heavy_seconds: float = 0.0
    takes_rows: bool = False
    input_shape: tuple[int, ...] = ()
    dtype: torch.dtype = torch.uint8
    most: int = MAX_BATCH_SIZE

    @cached_property
    def rows_json(self) -> bytes:
        """The columns of a model of a table, for decoders."""
        return self.classifier.card.table.model_dump_json().encode()

    @property
    def input_bytes(self) -> int:
        """Of one image or row, as the batcher takes it."""
        return math.prod(self.input_shape) * self.dtype.itemsize

    @property
    def rows(self) -> TableInput:
        return self.classifier.card.table

    def inputs(self, values: Sequence[bytes]) -> torch.Tensor:
        """Images or rows as the batcher takes them, one each, together: [N, ..]."""
        return torch.frombuffer(bytearray(b"".join(values)), dtype=self.dtype).view(-1, *self.input_shape)

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.counted.labels)

    def probabilities(self, rows: Rows) -> Rows:
        """Without the logit of a background, where the model has one."""
        classes = self.classes
        return rows if not rows or len(rows[0]) == classes else [row[:classes] for row in rows]

    def most_probable(self, row: list[float]) -> int:
        """The index of the largest probability of an answer, the first of equals."""
        return row.index(max(row[: self.classes]))

    @property
    def not_pictures(self) -> WrongContentType:
        """Why a model of a table does not answer to a picture."""
        return WrongContentType(
            f"{self.name!r} takes the rows of a table, not pictures",
            f"name it in the query (?model={self.name}) and send a row as {JSON}, {example(self.rows)}; "
            f"rows go to /predict/batch as {', '.join(TABLES)}",
        )


@dataclass(frozen=True)
class Degraded:
    """A name whose version cannot be loaded; `serving` is the one that answers instead, if any.

    Of a version that came with the service it is the same one, read from the files that came with it.
    """

    name: str
    version: int
    serving: int | None
    reason: str


class Registry:
    """Names to classifiers, kept up to date by `refresh`."""

    def __init__(self, versions: Versions, default: str, device: torch.device, counters: Counters) -> None:
        self.default = default
        self.device = device
        self.snapshot = Snapshot(-1, {}, {})
        self._versions = versions
        self._counters = counters
        self.splits: Mapping[str, Split] = {}  # by model: whose requests are shared among aliases
        self.shadows: Mapping[str, str] = {}  # by model: the alias of its candidate
        self._names: Mapping[str, ServedModel] = {}
        self._loaded: OrderedDict[tuple[str, int], ServedModel] = OrderedDict()
        self._damaged = DamagedVersions()
        self._refreshing = Lock()
        self._freezing = Lock()

    @property
    def models(self) -> list[ServedModel]:
        """What each bare name means, by name."""
        return [served for name, served in sorted(self._names.items()) if "@" not in name]

    @property
    def degraded(self) -> list[Degraded]:
        """The names that do not answer with the version that they mean, or from another copy of its files."""
        found = []
        for (model, alias), number in sorted(self.snapshot.aliases.items()):
            if self.is_unloaded(model):
                continue
            served = self._names.get(f"{model}@{alias}")
            reason = self._damaged.reason(model, number)
            if served is None or served.version != number or reason:
                name = model if alias == PRODUCTION else f"{model}@{alias}"
                reason = reason or "the version does not exist"
                found.append(Degraded(name, number, served.version if served else None, reason))
        return found

    def start(self) -> None:
        """Load the default model, to answer soon; `refresh` loads the others.

        Where it cannot be had, all others are loaded now. Raises CheckpointError where nothing can answer.
        """
        snapshot = self._versions.snapshot()
        number = snapshot.aliases.get((self.default, PRODUCTION))
        if number is None:
            known = ", ".join(sorted(model for model, alias in snapshot.aliases if alias == PRODUCTION))
            raise CheckpointError(
                f"there is no default model {self.default!r}: set MINIST_DEFAULT_MODEL to one of {known}"
            )
        served = self._first(self._candidates(snapshot, self.default, PRODUCTION, number))
        if served is not None:
            self._names = {self.default: served, f"{self.default}@{PRODUCTION}": served}
        elif self.refresh() and not self._names:
            raise CheckpointError("no model can be loaded: 'minist check' says what is wrong with each")

    def refresh(self) -> bool:
        """Load what has changed since the last time; whether anything had. Reads the database and files."""
        with self._refreshing:
            pointed = ((model, number) for (model, _), number in self.snapshot.aliases.items())
            if self._versions.change() == self.snapshot.change and not self._damaged.due(pointed):
                return False
            self._replace(self._versions.snapshot())
            return True

    def _replace(self, snapshot: Snapshot) -> None:
        names: dict[str, ServedModel] = {}
        unloaded = snapshot.unloaded - {self.default}
        for (model, alias), number in snapshot.aliases.items():
            if model in unloaded:
                continue
            served = self._first(self._candidates(snapshot, model, alias, number))
            if served is not None:
                names[f"{model}@{alias}"] = served
                if alias == PRODUCTION:
                    names[model] = served
        now = {(served.name, served.version): served for served in names.values()}
        kept = {
            key: served
            for key, served in self._loaded.items()
            if key in snapshot.versions and key[0] not in unloaded
        }
        self._names, self.snapshot = names, snapshot
        going = snapshot.traffic.values()
        self.splits = {
            one.model: Split.of(one.model, one.shares) for one in going if [*one.shares] != [PRODUCTION]
        }
        self.shadows = {one.model: one.shadow for one in going if one.shadow is not None}
        self._loaded = OrderedDict(kept | now)
        self._damaged.keep(snapshot.versions)
        self._forget()

    def _candidates(self, snapshot: Snapshot, model: str, alias: str, number: int) -> Iterator[Version]:
        """What may answer for an alias, the best first: its version, the one that answers now, those before it,
        those after it, the file that came with the service."""
        if (meant := snapshot.versions.get((model, number))) is not None:
            yield meant  # nearly always enough: the others are looked for when it is not
        before = self._names.get(f"{model}@{alias}")
        mine = snapshot.numbers.get(model, ())
        order = [before.version] if before else []
        order += [other for other in mine if other < number] + [other for other in mine[::-1] if other > number]
        for candidate in dict.fromkeys(order):
            version = snapshot.versions.get((model, candidate))
            if version is not None and candidate != number:
                yield version
        if (shipped := shipped_version(model)) is not None:
            yield shipped

    def _first(self, candidates: Iterator[Version]) -> ServedModel | None:
        return next(filter(None, map(self._try, candidates)), None)

    def _try(self, version: Version) -> ServedModel | None:
        """The version, loaded; None where that is not possible, or was not and is not to be tried again yet."""
        key = (version.model, version.version)
        served = self._loaded.get(key)
        if (served and not self._damaged.reason(*key)) or self._damaged.wait(*key) > 0:
            return served
        try:
            served = self._load(version)
            self._damaged.discard(*key)
        except ArtifactsAway as error:
            log.error("version %d of %s cannot be fetched now: %s", version.version, version.model, error)
            self._damaged.add(*key, error.detail, away=True)
        except CheckpointError as error:
            self._damaged.add(*key, str(error))
            served = served or self._stand_in(version, error)
        if served is not None:
            self._loaded[key] = served
        return served

    def _stand_in(self, version: Version, error: CheckpointError) -> ServedModel | None:
        """A damaged version, read from the files that came with the service, where it is one of those."""
        shipped = shipped_version(version.model)
        name = f"version {version.version} of {version.model}"
        if shipped is not None and shipped.sha256 == version.sha256 and shipped.directory != version.directory:
            with suppress(CheckpointError):
                served = self._load(replace(version, directory=shipped.directory, folders=None))
                log.error("%s is damaged, and read from the files that came with the service: %s", name, error)
                return served
        log.error("%s cannot be served: %s", name, error)
        return None

    def freeze(self, ending: Callable[[], bool] = lambda: False) -> None:
        """Give every classifier its quickest form; not done while loading, so that the service is up sooner."""
        with self._freezing:
            for served in self.models:
                if ending():
                    return
                served.forward.freeze()

    def get(self, name: str | None) -> ServedModel | None:
        """The classifier that a name means, if it is loaded."""
        return self._names.get(self.default if name is None else name)

    def routed(self, name: str | None, key: bytes) -> ServedModel | None:
        """The classifier whose turn it is for that key; None where requests for the name are not shared."""
        split = self.splits.get(self.default if name is None else name)
        return None if split is None else self._names.get(split.choose(key))

    def find(self, name: str | None) -> ServedModel:
        """The classifier that a name means, read from disk if need be.

        Raises UnknownModel, UnloadedModel, DamagedModel, or StorageTrouble where it cannot be fetched now.
        """
        name = self.default if name is None else name
        served = self.get(name)
        if served is None:
            self.refresh()  # it may be new, or not loaded yet
            served = self.get(name)
        return served or self._find_version(name)

    def loaded(self, model: str, version: int) -> ServedModel | None:
        """A version, where it is in memory."""
        return self._loaded.get((model, version))

    def is_unloaded(self, model: str) -> bool:
        """Whether a model was taken out of service; the default one never is."""
        return model in self.snapshot.unloaded and model != self.default

    def damage(self, model: str, number: int) -> str | None:
        """Why a version cannot be loaded, as far as that was tried."""
        return self._damaged.reason(model, number)

    def _find_version(self, name: str) -> ServedModel:
        model, at, alias = name.partition("@")
        if self.is_unloaded(model):
            raise UnloadedModel(
                f"{model!r} was taken out of service",
                f"an admin puts it back: POST /v2/repository/models/{model[:100]}/load",
            )
        number = int(alias) if alias.isdecimal() and len(alias) < 10 else None
        if number is None:
            number = self.snapshot.aliases.get((model, alias if at else PRODUCTION), 0)
        with self._refreshing:
            version = self.snapshot.versions.get((model, number))
            served = self._try(version) if version else None
            if served is not None:
                self._loaded.move_to_end((model, number))
                self._forget()
        if served is not None:
            return served
        self.refresh()  # it may have been deleted meanwhile
        if (model, number) not in self.snapshot.versions:
            raise UnknownModel(f"there is no model {name!r}", self._instead(model))
        seconds = max(1, round(self._damaged.wait(model, number)))
        if self._damaged.is_away(model, number):
            raise StorageTrouble(
                f"version {number} of {model!r} is not on this machine, and the store does not answer",
                "try again, or ask for another version; the operator should look at MINIST_STORE",
                retry_after=seconds,
            )
        raise DamagedModel(
            f"version {number} of {model!r} is damaged and cannot be loaded",
            f"ask for another version; the operator should run 'minist models verify {model}'",
            retry_after=seconds,
        )

    def _forget(self) -> None:
        pointed = {(served.name, served.version) for served in self._names.values()}
        spare = [key for key in self._loaded if key not in pointed]
        for key in spare[: max(0, len(spare) - KEPT)]:
            del self._loaded[key]

    def _instead(self, model: str) -> str:
        """What may be asked for: of that model, or the models."""
        mine = [f"{model}@{version}" for version in self.snapshot.numbers.get(model, ())]
        mine += [f"{model}@{alias}" for name, alias in self.snapshot.aliases if name == model]
        known = mine or [served.name for served in self.models]
        told = f"ask for one of {', '.join(known[:TOLD])}"
        if len(known) <= TOLD:
            near = None if mine else nearest(model, known)  # of few: comparing takes time
            return f"did you mean {near!r}? Or {told}" if near else told
        listed = f"GET /models/{model}/versions" if mine else "GET /models"
        return f"{told}, or of {len(known) - TOLD:,} others, which {listed} lists"

    def _load(self, version: Version) -> ServedModel:
        """Raises CheckpointError or ArtifactsAway."""
        classifier, forward = self._read(version.bring(*_checkpoint(version)))
        seconds, taken = forward.seconds(), classifier.card.input
        counted = self._counters.answers_of(version.model, version.version, classifier.card.classes)
        rows = isinstance(taken, TableInput)
        return ServedModel(
            version.model,
            version.version,
            classifier,
            forward,
            PredictionEncoder(version.model, version.version, classifier.card, counted),
            counted,
            seconds if seconds > HEAVY or classifier.is_graph else 0.0,
            rows,
            (taken.width,) if isinstance(taken, TableInput) else taken.shape,
            torch.float32 if rows else torch.uint8,
            MAX_BATCH_ROWS if rows else MAX_BATCH_SIZE,
        )

    def _read(self, version: Version) -> tuple[Classifier, InferenceModel]:
        classifier, forward = load_verified(version.weights, self.device)
        if classifier.card.sha256 != version.sha256:
            raise CheckpointError(f"{version.weights}: its card is not the one that was published")
        return classifier, forward


def _checkpoint(version: Version) -> tuple[str, str]:
    """What a model is loaded from; card first."""
    return version.weights.with_suffix(".json").name, version.weights.name
