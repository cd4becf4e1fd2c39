from __future__ import annotations

import pytest
from capacity import RATES, Load, Replica, Simulation, Site, enough


def test_one_user_alone_takes_what_was_measured() -> None:
    outcome = Simulation(Load(1, clip=7.31, pause=10), Site(1, proxy_seconds=0.0), seconds=2000).run()
    assert outcome.refused == 0
    assert sum(outcome.latencies) / len(outcome.latencies) == pytest.approx(1.0, rel=0.1)


def test_more_clients_are_served_at_the_measured_rate() -> None:
    replica = Replica(tuple(RATES.items()))
    assert [replica.rate(clients) for clients in (1, 4, 8, 100)] == [7.31, 8.70, 8.86, 8.86]
    assert RATES[1] < replica.rate(2) < RATES[4]


def test_what_is_too_much_is_refused() -> None:
    """400 users who ask again at once, of whom a replica and its proxy take 64 and 64."""
    outcome = Simulation(Load(400, clip=7, pause=1), Site(1), seconds=900).run()
    assert outcome.refused > 0
    assert outcome.busy > 0.95
    rate = 7 * len(outcome.latencies) / 900
    assert rate == pytest.approx(8.86, rel=0.1)


def test_a_proxy_can_be_what_is_too_little() -> None:
    load = Load(100, clip=1, pause=1)
    few = Simulation(load, Site(30, proxy_seconds=0.1), seconds=60).run()
    more = Simulation(load, Site(30, proxies=10, proxy_seconds=0.1), seconds=60).run()
    assert few.percentile(0.5) > 5 * more.percentile(0.5)


def test_the_smallest_site_that_does() -> None:
    load = Load(100, clip=7, pause=60)
    site, outcome = enough(load, p95=5, proxies=1, rates=RATES, seconds=300)
    assert outcome.percentile(0.95) <= 5
    fewer = Simulation(load, Site(site.replicas - 1), seconds=300).run()
    assert fewer.percentile(0.95) > 5 or fewer.refused
