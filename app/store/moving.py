"""A home that gets an object store: what it holds is uploaded at its next start."""

import logging
from collections.abc import Container, Mapping
from pathlib import Path

from app.store import locks
from app.store.datasets import Datasets, source_damage
from app.store.errors import ArtifactsAway
from app.store.folders import files_of
from app.store.paths import source_place
from app.store.versions import Versions
from models.errors import CheckpointError

log = logging.getLogger("minist.store")


def move_in(versions: Versions, datasets: Datasets) -> None:
    """Upload what is whole on this disk and not in the store: versions, data sets, the files they came as.

    Where the store is away it is done at the next start; nothing needs it meanwhile.
    """
    if versions.folders.objects is None:
        return
    there = versions.folders.places()
    try:
        for place, files in {**_versions(versions, there), **_datasets(datasets, there)}.items():
            _move(versions, place, files)
    except ArtifactsAway as error:
        log.error("what is in MINIST_HOME alone is uploaded at the next start: %s", error)


def _versions(versions: Versions, there: Container[str]) -> Mapping[str, Mapping[str, Path]]:
    found = {}
    for version in versions.snapshot().versions.values():
        if version.place not in there and version.directory.is_dir():
            try:
                version.intact_card()
            except CheckpointError as error:
                log.error("%s is not uploaded: %s", version.place, error)
            else:
                found[version.place] = files_of(version.directory)
    return found


def _datasets(datasets: Datasets, there: Container[str]) -> Mapping[str, Mapping[str, Path]]:
    found: dict[str, Mapping[str, Path]] = {}
    for version in datasets.all():
        if version.place not in there and version.digest and version.directory.is_dir():
            if (problem := version.damage()) is None:
                found[version.place] = files_of(version.directory)
            else:
                log.error("%s is not uploaded: %s", version.place, problem)
        place, source = source_place(version.source), datasets.paths.source(version.source)
        if place not in there and source.exists() and source_damage(source) is None:
            found[place] = {"": source}
    return found


def _move(versions: Versions, place: str, files: Mapping[str, Path]) -> None:
    kind = place.rpartition("/")[0].replace("/.", "/")
    upload = versions.folders.upload(kind, files)
    with versions.database.write(locks.VERSIONS, locks.DATASETS) as connection:
        if not versions.folders.holds(connection, place):  # else another home was first
            versions.folders.keep(connection, upload, place)
    log.warning("%s is in the store now", place)
