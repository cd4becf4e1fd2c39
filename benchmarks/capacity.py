"""How many replicas so many users need: a discrete-event simulation with measured service times.

    python benchmarks/capacity.py --users 1 100 10000 --clip 7 --every 60 --p95 5

Users send a clip, wait for its text, and send the next one after a pause; clips and pauses vary. A proxy's core takes a
while for each request and hands it to the less busy of two replicas that it picks at random, or lets it wait if all are
full. A replica works on all that it has at once, so many seconds of audio in a second as were measured for that number
of clients (`--rates`: clients=audio seconds per second). What it does not know: networks, longer files beside short
ones, machines that fail.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

# docs/performance.md: base int8 on two cores, clips of 5 to 11 s, full window.
RATES = {1: 7.31, 4: 8.70, 8: 8.86}


@dataclass(frozen=True)
class Load:
    """`clip` and `pause` are means in seconds; a pause is from an answer to the next request."""

    users: int
    clip: float = 7.0
    pause: float = 53.0


@dataclass(frozen=True)
class Site:
    """`proxy_seconds` are of one core of a proxy, for a request and its answer."""

    replicas: int
    proxies: int = 1
    proxy_seconds: float = 0.005
    places: int = 64
    waiting: int = 64
    rates: tuple[tuple[int, float], ...] = tuple(RATES.items())


@dataclass
class Outcome:
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    busy: float = 0.0
    proxy_busy: float = 0.0

    def percentile(self, share: float) -> float:
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(share * len(self.latencies)))]

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.refused + len(self.latencies))


@dataclass(order=True)
class Request:
    """`done_at` is on the clock of its replica, which counts the audio that each request there has got."""

    done_at: float
    number: int
    started: float = field(compare=False)
    clip: float = field(compare=False)


class Replica:
    """Divides its speed among its requests."""

    def __init__(self, rates: Sequence[tuple[int, float]]) -> None:
        self._rates = sorted(rates)
        self.requests: list[Request] = []
        self.version = 0
        self.busy = 0.0
        self._clock = 0.0
        self._now = 0.0

    def rate(self, clients: int) -> float:
        """Between two measurements a straight line; beyond the last its value."""
        below = max((rate for rate in self._rates if rate[0] <= clients), default=self._rates[0])
        above = min((rate for rate in self._rates if rate[0] >= clients), default=self._rates[-1])
        if above[0] == below[0]:
            return below[1]
        return below[1] + (above[1] - below[1]) * (clients - below[0]) / (above[0] - below[0])

    def advance(self, now: float) -> None:
        if count := len(self.requests):
            self._clock += (now - self._now) * self.rate(count) / count
            self.busy += now - self._now
        self._now = now
        self.version += 1

    def add(self, request: Request) -> None:
        request.done_at = self._clock + request.clip
        heapq.heappush(self.requests, request)

    def finish(self) -> Request:
        return heapq.heappop(self.requests)

    def next_end(self) -> float:
        count = len(self.requests)
        if not count:
            return math.inf
        return self._now + max(0.0, self.requests[0].done_at - self._clock) * count / self.rate(count)


class Simulation:
    def __init__(self, load: Load, site: Site, *, seconds: float, seed: int = 1) -> None:
        self._load = load
        self._site = site
        self._seconds = seconds
        self._random = random.Random(seed)
        self._replicas = [Replica(site.rates) for _ in range(site.replicas)]
        self._proxies = [0.0] * site.proxies
        self._waiting: deque[Request] = deque()
        self._events: list[tuple[float, int, str, object]] = []
        self._count = 0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        for _ in range(self._load.users):
            self._at(self._random.uniform(0, self._load.pause), "ask", None)
        while self._events and self._events[0][0] < self._seconds:
            now, _, kind, what = heapq.heappop(self._events)
            getattr(self, f"_{kind}")(now, what)
        self.outcome.busy = sum(replica.busy for replica in self._replicas) / len(self._replicas) / self._seconds
        self.outcome.proxy_busy /= len(self._proxies) * self._seconds
        return self.outcome

    def _at(self, when: float, kind: str, what: object) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, kind, what))

    def _ask(self, now: float, what: None) -> None:
        proxy = self._random.randrange(len(self._proxies))
        self._proxies[proxy] = max(now, self._proxies[proxy]) + self._site.proxy_seconds
        self.outcome.proxy_busy += self._site.proxy_seconds
        clip = self._load.clip * self._random.uniform(0.5, 1.5)
        self._at(self._proxies[proxy], "arrive", Request(0.0, self._count, now, clip))

    def _arrive(self, now: float, request: Request) -> None:
        picked = self._random.sample(self._replicas, min(2, len(self._replicas)))
        replica = min(picked, key=lambda each: len(each.requests))
        if len(replica.requests) >= self._site.places:
            replica = min(self._replicas, key=lambda each: len(each.requests))
        if len(replica.requests) < self._site.places:
            self._begin(now, replica, request)
        elif len(self._waiting) < self._site.waiting * self._site.proxies:
            self._waiting.append(request)
        else:
            self.outcome.refused += 1
            self._pause(now)

    def _begin(self, now: float, replica: Replica, request: Request) -> None:
        replica.advance(now)
        replica.add(request)
        self._at(replica.next_end(), "end", (replica, replica.version))

    def _end(self, now: float, what: tuple[Replica, int]) -> None:
        replica, version = what
        if version != replica.version:
            return
        replica.advance(now)
        self.outcome.latencies.append(now - replica.finish().started)
        self._pause(now)
        if self._waiting:
            replica.add(self._waiting.popleft())
        self._at(replica.next_end(), "end", (replica, replica.version))

    def _pause(self, now: float) -> None:
        self._at(now + self._random.expovariate(1 / self._load.pause), "ask", None)


def enough(load: Load, *, p95: float, proxies: int, rates: dict[int, float], seconds: float) -> tuple[Site, Outcome]:
    """Return the smallest site that answers 95 % of the requests in so many seconds, and refuses none."""

    def tried(replicas: int) -> tuple[Site, Outcome]:
        site = Site(replicas, proxies, rates=tuple(rates.items()))
        return site, Simulation(load, site, seconds=seconds).run()

    def does(outcome: Outcome) -> bool:
        return not outcome.refused and outcome.percentile(0.95) <= p95

    fastest = max(rates.values())
    most = max(1, math.ceil(load.users * load.clip / (load.clip + load.pause) / fastest))
    least = most
    while not does(tried(most)[1]):
        least, most = most + 1, 2 * most
        if most > 10 * load.users + 10:
            raise SystemExit(
                f"no number of replicas answers in {p95:g} s: a replica alone takes longer, or the proxies do"
            )
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if does(tried(middle)[1]) else (middle + 1, most)
    return tried(most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 100, 10_000])
    parser.add_argument("--clip", type=float, default=7.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds from one request of a user to the next")
    parser.add_argument("--p95", type=float, default=5.0)
    parser.add_argument("--proxies", type=int, nargs="+", default=[1, 1, 4], help="for each number of users")
    parser.add_argument("--rates", nargs="+", default=[f"{clients}={rate}" for clients, rate in RATES.items()])
    parser.add_argument("--seconds", type=float, default=600.0)
    asked = parser.parse_args()
    rates = {int(clients): float(rate) for clients, rate in (text.split("=") for text in asked.rates)}
    print("| users | proxies | replicas | p50 s | p95 s | replicas busy % | proxies busy % |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for number, users in enumerate(asked.users):
        load = Load(users, asked.clip, asked.every)
        proxies = asked.proxies[min(number, len(asked.proxies) - 1)]
        site, found = enough(load, p95=asked.p95, proxies=proxies, rates=rates, seconds=asked.seconds)
        print(
            f"| {users} | {proxies} | {site.replicas} | {found.percentile(0.5):.2f} | {found.percentile(0.95):.2f} "
            f"| {100 * found.busy:.0f} | {100 * found.proxy_busy:.0f} |"
        )


if __name__ == "__main__":
    main()
