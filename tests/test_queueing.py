"""The simulation of benchmarks/queueing.py against what is known in closed form."""

import pytest

from benchmarks.queueing import Cost, Fleet, arriving, looping, needed

ALONE = Cost(0.0, 0.001, batch=1)  # one request after the other, 1 ms each
SHARED = Cost(0.0005, 0.0003)


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_one_process_without_batches_is_the_queue_m_d_1(load: float) -> None:
    waits = load * ALONE.request / (2 * (1 - load))
    found = arriving(Fleet(), ALONE, load / ALONE.request, requests=40_000)
    assert found.mean == pytest.approx(ALONE.request + waits, rel=0.03)
    assert found.rate == pytest.approx(load / ALONE.request, rel=0.03)


def test_latency_grows_with_the_load() -> None:
    found = [arriving(Fleet(2), SHARED, rate, requests=10_000) for rate in (100, 2000, 4000, 6000)]
    assert [one.p99 for one in found] == sorted(one.p99 for one in found)
    assert found[0].p50 == pytest.approx(SHARED.of(1), rel=0.01)


def test_a_process_answers_all_that_wait_at_once() -> None:
    client = Cost(0.0, 0.0)
    for connections in (1, 4, 64):
        found = looping(Fleet(cpus=2), SHARED, connections, client, requests=5_000)
        assert found.rate == pytest.approx(connections / SHARED.of(connections), rel=0.01)
        assert found.p50 == pytest.approx(SHARED.of(connections), rel=0.01)
    batches = looping(Fleet(cpus=2), Cost(0.0005, 0.0003, batch=16), 64, client, requests=5_000)
    assert batches.rate == pytest.approx(16 / SHARED.of(16), rel=0.01)


def test_processes_share_the_cpus_of_their_machine() -> None:
    client = Cost(0.0, 0.0)
    rates = [
        looping(Fleet(cpus=2, processes=number), Cost(0.0, 0.001), 60, client, requests=5_000).rate
        for number in (1, 2, 3)
    ]
    assert rates == pytest.approx([1000, 2000, 2000], rel=0.02)
    busy = looping(Fleet(cpus=1), Cost(0.0, 0.001), 60, Cost(0.0, 0.001), requests=5_000).rate
    assert busy == pytest.approx(500, rel=0.05)  # the client takes half of the only CPU


def test_of_equal_processes_either_balancer_will_do() -> None:
    turns = arriving(Fleet(4), SHARED, 9000, "round robin", requests=10_000)
    least = arriving(Fleet(4), SHARED, 9000, "least connections", requests=10_000)
    assert least.p99 == pytest.approx(turns.p99, rel=0.2)


def test_more_processes_are_needed_for_more_requests() -> None:
    found = [needed(SHARED, rate, 0.01, requests=8_000)[0] for rate in (10, 1000, 4000)]
    assert found == sorted(found)
    assert found[0] == 1
    assert found[-1] >= 4000 * SHARED.request
