"""What runs while the service does: opened and started, kept up to date in the background, saved at the end."""

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from sqlalchemy.exc import OperationalError

from app.cpus import cpu_quota, threads_per_worker
from app.home import Home
from app.serving.batching import Batcher
from app.serving.decoding.pool import DecoderPool
from app.serving.evaluation import Evaluator
from app.serving.export import Exporter
from app.serving.registry import Registry
from app.serving.shadow import Shadow
from app.settings import Settings
from app.store.cache import Cache
from app.store.errors import Away
from app.store.recent_predictions import RecentPredictions
from app.store.traffic import TrafficRows
from app.telemetry import metrics, own_process
from app.telemetry.counters import Counters
from app.telemetry.log_writer import standard_output
from app.telemetry.logs import RequestLog
from app.web.access_log import RequestObserver
from app.web.auth import Authenticator
from app.web.background import Background
from app.web.connections import Connections
from app.web.dependencies import Services
from app.web.draining import Draining, end_with_parent
from app.web.drift import DriftWatch
from app.web.followers import POLL_SECONDS, Followers
from app.web.incoming import WEIGHTS, Incoming
from app.web.live import EVERY_SECONDS, Live
from app.web.live_view import LiveView
from app.web.rate_limit import Rates
from app.web.traffic import TrafficWatch
from app.web.training_workers import TrainingWorkers
from app.web.v2.grpc_server import serving
from models.devices import choose_device

log = logging.getLogger("minist")

MOST_DECODERS = 4  # where none are set: each has some 40 MB
OBJECTS_BEFORE_COLLECTION = 10_000  # those of some hundred requests at a time: with 700 it is always collecting
AWAY_SECONDS = 1.0  # between two attempts to reach a database or an object store
TIDY_SECONDS = 60.0
DRIFT_SECONDS = 60.0
TRAFFIC_SECONDS = 2.0


@asynccontextmanager
async def lifespan(
    settings: Settings, observer: RequestObserver, rates: Rates | None
) -> AsyncIterator[dict[str, Services]]:
    """Raises CheckpointError where no model can answer."""
    draining = Draining()
    draining.watch()
    home = await _opened(settings, draining)
    services = _start(home, observer.counters, draining)
    if rates is not None:
        rates.share(home.database)
    end_with_parent()
    _repeat(services, observer.log, home.cache)
    _watch(services)
    usual = gc.get_threshold()
    _keep_from_collector()
    gc.set_threshold(OBJECTS_BEFORE_COLLECTION, *usual[1:])
    async with services.decoders, serving(services, observer, rates):
        yield {"services": services}
    gc.set_threshold(*usual)
    gc.unfreeze()
    await services.background.end()
    _save(services, observer.log)
    home.database.close()


def _keep_from_collector() -> None:
    """What is there now stays, or goes by its count of references, as models do: the garbage collector need not
    traverse it under load. A hundred thousand objects of the other models cost 60 ms each time."""
    gc.collect()
    gc.freeze()


async def _opened(settings: Settings, draining: Draining) -> Home:
    """The home, once the server of its database answers: this may be a worker that was started again."""
    while True:
        try:
            return await asyncio.to_thread(Home.open, settings)
        except Away as error:
            if draining:
                raise
            log.error("%s; waiting for it", error)
            await asyncio.sleep(AWAY_SECONDS)


def _start(home: Home, counters: Counters, draining: Draining) -> Services:
    settings, quota = home.settings, cpu_quota()
    threads = threads_per_worker(quota, settings.workers)
    torch.set_num_threads(min(settings.threads, threads))
    registry = Registry(home.versions, settings.default_model, choose_device(settings.device), counters)
    registry.start()
    if not settings.feedback:
        home.feedback.forget_predictions()
    batcher = Batcher(counters, settings.max_waiting_images, settings.max_waiting_bytes, threads)
    connections = Connections(settings.max_connections)
    most_followers = min(settings.max_followers, connections.limit // 2)
    processes = _processes(counters, batcher)
    background, watch = Background(), _drift_watch(home, counters, registry)
    traffic, shadow = TrafficRows(home.database), Shadow(registry, batcher)
    view = LiveView(settings, registry, home.queue, home.supervisors, background, watch, traffic)
    return Services(
        settings=settings,
        registry=registry,
        versions=home.versions,
        queue=home.queue,
        imports=home.imports,
        incoming=Incoming(home.paths.datasets, settings.max_dataset_bytes),
        weights=home.weights,
        incoming_weights=Incoming(home.paths.datasets, settings.max_weights_bytes, WEIGHTS),
        training_workers=TrainingWorkers(home.supervisors),
        feedback=home.feedback,
        recent_predictions=RecentPredictions(home.database) if settings.feedback else None,
        evaluator=Evaluator(settings.data_dir, home.paths.datasets, home.datasets.bring),
        exporter=Exporter(),
        authenticator=Authenticator(home.keys, settings.open_predict),
        draining=draining,
        background=background,
        connections=connections,
        followers=Followers(home.queue, counters, most_followers, draining),
        live=Live(processes.all, view, draining),
        drift=watch,
        traffic=TrafficWatch(traffic, registry, counters, shadow),
        shadow=shadow,
        batcher=batcher,
        decoders=DecoderPool(
            counters, settings.decoders or min(threads, MOST_DECODERS), settings.max_waiting_pixels
        ),
        counters=counters,
        processes=processes,
        cpu_quota=quota,
    )


def _drift_watch(home: Home, counters: Counters, registry: Registry) -> DriftWatch:
    url = home.settings.drift_notify
    notify = url.get_secret_value() if url else None
    return DriftWatch(home.answered, counters, registry, home.settings.drift_psi, notify)


def _processes(counters: Counters, batcher: Batcher) -> metrics.Processes:
    def mine() -> dict[str, Any]:
        found = counters.snapshot(batcher.images, batcher.bytes, standard_output().dropped)
        return {**found, "process": own_process.facts()}

    directory = os.environ.get(metrics.DIRECTORY)
    return metrics.Processes(Path(directory) if directory else None, mine)


def _repeat(services: Services, log: RequestLog | None, cache: Cache) -> None:
    """Start the background tasks. Those that read the disk do so in a thread."""
    registry, memory = services.registry, services.recent_predictions

    def follow() -> None:
        changed = registry.refresh()
        registry.freeze(lambda: services.draining.begun)
        if changed:
            _keep_from_collector()

    async def follow_aliases() -> None:
        """Serve what the aliases point at, also when another process moved them."""
        await asyncio.to_thread(follow)

    async def write_predictions() -> None:
        assert memory is not None
        if memory.due:
            await asyncio.to_thread(memory.write)

    async def write_log() -> None:
        assert log is not None
        log.flush()

    async def save_numbers() -> None:
        services.processes.save()

    async def count_training_workers() -> None:
        await asyncio.to_thread(services.training_workers.refresh)

    async def tidy_cache() -> None:
        await asyncio.to_thread(cache.tidy)

    services.background.repeat("following the aliases", 0.25, follow_aliases)
    if cache.folders.objects is not None:
        services.background.repeat("keeping the cache of the store within its bound", TIDY_SECONDS, tidy_cache)
    if memory is not None:
        services.background.repeat("remembering predictions", 0.05, write_predictions)
    if log is not None:
        services.background.repeat("writing the request log", 0.25, write_log)
    services.background.repeat("following the events of jobs", POLL_SECONDS, services.followers.poll)
    services.background.repeat("closing slow connections", 1, services.connections.sweep)
    services.background.repeat("counting training workers", 2, count_training_workers)
    services.background.repeat("saving the numbers of this process", 1, save_numbers)


def _watch(services: Services) -> None:
    """Start the background tasks that operators want and predictions can do without."""
    registry = services.registry

    async def watch_drift() -> None:
        await asyncio.to_thread(services.drift.turn)

    async def compare_candidates() -> None:
        if services.shadow.waits:
            await asyncio.get_running_loop().run_in_executor(services.shadow.thread, services.shadow.work)

    async def watch_traffic() -> None:
        if registry.snapshot.traffic:
            await asyncio.to_thread(services.traffic.turn)

    services.background.repeat("measuring for those who watch", EVERY_SECONDS, services.live.poll, True)
    services.background.repeat("comparing answers with test sets", DRIFT_SECONDS, watch_drift, True)
    services.background.repeat("comparing candidates in the shadow", 0.1, compare_candidates, True)
    services.background.repeat("watching shared traffic", TRAFFIC_SECONDS, watch_traffic, True)


def _save(services: Services, log: RequestLog | None) -> None:
    """What the last turns have not written."""
    if services.recent_predictions is not None:
        with suppress(OperationalError):  # then they cannot be corrected
            services.recent_predictions.write()
    with suppress(OperationalError):  # a minute of answers is not compared then
        services.drift.write()
    if log is not None:
        log.flush()
    standard_output().flush()
    services.processes.save()
