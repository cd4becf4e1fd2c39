from __future__ import annotations

import pytest

from benchmarks.cluster.capacity import RATES, Deployment, Load, Replica, Simulation, smallest_deployment


def test_one_user_has_the_measured_latency() -> None:
    outcome = Simulation(Load(1, clip=7.31, pause=10), Deployment(1, proxy_seconds=0.0), seconds=2000).run()
    assert outcome.refused == 0
    assert sum(outcome.latencies) / len(outcome.latencies) == pytest.approx(1.0, rel=0.1)


def test_replicas_have_the_measured_rates() -> None:
    replica = Replica(tuple(RATES.items()))
    assert [replica.rate(clients) for clients in (1, 4, 8, 100)] == [7.31, 8.70, 8.86, 8.86]
    assert RATES[1] < replica.rate(2) < RATES[4]


def test_requests_beyond_all_limits_are_refused() -> None:
    """400 users pause for a second; the replica admits 64 requests, and its proxy queues 64."""
    outcome = Simulation(Load(400, clip=7, pause=1), Deployment(1), seconds=900).run()
    assert outcome.refused > 0
    assert outcome.replica_utilization > 0.95
    rate = 7 * len(outcome.latencies) / 900
    assert rate == pytest.approx(8.86, rel=0.1)


def test_a_proxy_can_be_the_bottleneck() -> None:
    load = Load(100, clip=1, pause=1)
    few = Simulation(load, Deployment(30, proxy_seconds=0.1), seconds=60).run()
    more = Simulation(load, Deployment(30, proxies=10, proxy_seconds=0.1), seconds=60).run()
    assert few.percentile(0.5) > 5 * more.percentile(0.5)


def test_the_smallest_deployment_is_found() -> None:
    load = Load(100, clip=7, pause=60)
    deployment, outcome = smallest_deployment(load, p95=5, proxies=1, rates=RATES, seconds=300)
    assert outcome.percentile(0.95) <= 5
    fewer = Simulation(load, Deployment(deployment.replicas - 1), seconds=300).run()
    assert fewer.percentile(0.95) > 5 or fewer.refused
