"""How many replicas a number of users needs: a discrete-event simulation with measured service times.

    python -m benchmarks.cluster.capacity --users 1 100 10000 --clip 7 --pause 60 --p95 5

Each user sends a clip, waits for its text, and sends the next one after a pause; lengths and pauses vary. One core of a
proxy takes a while for each request and then picks the less busy of two random replicas, or queues the request if all
replicas are full. A replica works on all its requests at once; its speed is the one measured for that number of clients
(`--rates`: clients=audio seconds per second). Not simulated: the network, long files beside short ones, machines that
fail.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from benchmarks.report import argument_parser, markdown_table

# docs/performance.md: base int8 on two cores, clips of 5 to 11 s, full window.
RATES = {1: 7.31, 4: 8.70, 8: 8.86}


@dataclass(frozen=True)
class Load:
    """`clip` is a mean length and `pause` the mean time from a result to the next request, both in seconds."""

    users: int
    clip: float = 7.0
    pause: float = 53.0


@dataclass(frozen=True)
class Deployment:
    """`proxy_seconds` are CPU time of a proxy for each request. `max_requests` is for each replica, `max_queued` for
    each proxy. `rates` are pairs of clients and audio seconds per second."""

    replicas: int
    proxies: int = 1
    proxy_seconds: float = 0.005
    max_requests: int = 64
    max_queued: int = 64
    rates: tuple[tuple[int, float], ...] = tuple(RATES.items())


@dataclass
class Outcome:
    """Latencies in seconds, the number of refused requests, and the share of time that replicas and proxies worked."""

    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    replica_utilization: float = 0.0
    proxy_utilization: float = 0.0

    def percentile(self, share: float) -> float:
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


@dataclass(order=True)
class Request:
    """`done_at` is the value of its replica's clock at which it is done."""

    done_at: float
    number: int
    started: float = field(compare=False)
    clip: float = field(compare=False)


class Replica:
    """Divides its speed equally among its requests. Its clock counts the audio seconds that each request has got."""

    def __init__(self, rates: Sequence[tuple[int, float]]) -> None:
        self._rates = sorted(rates)
        self.requests: list[Request] = []
        self.version = 0
        self.busy_seconds = 0.0
        self._clock = 0.0
        self._now = 0.0

    def rate(self, clients: int) -> float:
        """Interpolated between two measurements, and constant beyond the last."""
        below = max((rate for rate in self._rates if rate[0] <= clients), default=self._rates[0])
        above = min((rate for rate in self._rates if rate[0] >= clients), default=self._rates[-1])
        if above[0] == below[0]:
            return below[1]
        return below[1] + (above[1] - below[1]) * (clients - below[0]) / (above[0] - below[0])

    def advance(self, now: float) -> None:
        if clients := len(self.requests):
            self._clock += (now - self._now) * self.rate(clients) / clients
            self.busy_seconds += now - self._now
        self._now = now
        self.version += 1

    def add(self, request: Request) -> None:
        request.done_at = self._clock + request.clip
        heapq.heappush(self.requests, request)

    def finish(self) -> Request:
        return heapq.heappop(self.requests)

    def next_end(self) -> float:
        clients = len(self.requests)
        if not clients:
            return math.inf
        return self._now + max(0.0, self.requests[0].done_at - self._clock) * clients / self.rate(clients)


class Simulation:
    def __init__(self, load: Load, deployment: Deployment, *, seconds: float, seed: int = 1) -> None:
        self._load = load
        self._deployment = deployment
        self._seconds = seconds
        self._random = random.Random(seed)
        self._replicas = [Replica(deployment.rates) for _ in range(deployment.replicas)]
        self._proxies_free_at = [0.0] * deployment.proxies
        self._queue: deque[Request] = deque()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count(1)
        self._outcome = Outcome()

    def run(self) -> Outcome:
        for _ in range(self._load.users):
            self._schedule(self._random.uniform(0, self._load.pause), self._send)
        while self._events and self._events[0][0] < self._seconds:
            now, _, event = heapq.heappop(self._events)
            event(now)
        busy_seconds = sum(replica.busy_seconds for replica in self._replicas)
        self._outcome.replica_utilization = busy_seconds / len(self._replicas) / self._seconds
        self._outcome.proxy_utilization /= len(self._proxies_free_at) * self._seconds
        return self._outcome

    def _schedule(self, when: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), event))

    def _send(self, now: float) -> None:
        """A user sends a request, which waits until its proxy has worked on it."""
        proxy = self._random.randrange(len(self._proxies_free_at))
        free_at = max(now, self._proxies_free_at[proxy]) + self._deployment.proxy_seconds
        self._proxies_free_at[proxy] = free_at
        self._outcome.proxy_utilization += self._deployment.proxy_seconds
        request = Request(0.0, next(self._numbers), now, self._load.clip * self._random.uniform(0.5, 1.5))
        self._schedule(free_at, lambda now: self._route(now, request))

    def _route(self, now: float, request: Request) -> None:
        candidates = self._random.sample(self._replicas, min(2, len(self._replicas)))
        replica = min(candidates, key=lambda each: len(each.requests))
        if len(replica.requests) >= self._deployment.max_requests:
            replica = min(self._replicas, key=lambda each: len(each.requests))
        if len(replica.requests) < self._deployment.max_requests:
            replica.advance(now)
            self._start(replica, request)
        elif len(self._queue) < self._deployment.max_queued * self._deployment.proxies:
            self._queue.append(request)
        else:
            self._outcome.refused += 1
            self._pause(now)

    def _start(self, replica: Replica, request: Request) -> None:
        replica.add(request)
        self._schedule_end(replica)

    def _schedule_end(self, replica: Replica) -> None:
        """The next end of a request, unless the replica changes before it."""
        version = replica.version

        def end(now: float) -> None:
            if replica.version == version:
                self._end(now, replica)

        self._schedule(replica.next_end(), end)

    def _end(self, now: float, replica: Replica) -> None:
        replica.advance(now)
        self._outcome.latencies.append(now - replica.finish().started)
        self._pause(now)
        if self._queue:
            replica.add(self._queue.popleft())
        self._schedule_end(replica)

    def _pause(self, now: float) -> None:
        self._schedule(now + self._random.expovariate(1 / self._load.pause), self._send)


def smallest_deployment(
    load: Load, *, p95: float, proxies: int, rates: dict[int, float], seconds: float
) -> tuple[Deployment, Outcome]:
    """Return the smallest deployment that refuses no request and has a 95th percentile of at most `p95` seconds."""

    def simulate(replicas: int) -> tuple[Deployment, Outcome]:
        deployment = Deployment(replicas, proxies, rates=tuple(rates.items()))
        return deployment, Simulation(load, deployment, seconds=seconds).run()

    def suffices(replicas: int) -> bool:
        _, outcome = simulate(replicas)
        return not outcome.refused and outcome.percentile(0.95) <= p95

    fastest = max(rates.values())
    low = high = max(1, math.ceil(load.users * load.clip / (load.clip + load.pause) / fastest))
    while not suffices(high):
        low, high = high + 1, 2 * high
        if high > 10 * load.users + 10:
            raise SystemExit(
                f"no number of replicas responds within {p95:g} s: a clip takes longer on an idle replica, or the "
                "proxies are the bottleneck"
            )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle + 1, high)
    return simulate(high)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 100, 10_000])
    parser.add_argument("--clip", type=float, default=7.0, help="mean length of a clip in seconds")
    parser.add_argument("--pause", type=float, default=60.0, help="mean seconds from a result to the next request")
    parser.add_argument("--p95", type=float, default=5.0, help="the 95th percentile of latencies to achieve")
    parser.add_argument("--proxies", type=int, nargs="+", default=[1, 1, 4], help="for each number of users")
    parser.add_argument("--rates", nargs="+", default=[f"{clients}={rate}" for clients, rate in RATES.items()])
    parser.add_argument("--seconds", type=float, default=600.0, help="simulated time")
    arguments = parser.parse_args()
    rates = {int(clients): float(rate) for clients, rate in (text.split("=") for text in arguments.rates)}
    rows = []
    for number, users in enumerate(arguments.users):
        proxies = arguments.proxies[min(number, len(arguments.proxies) - 1)]
        load = Load(users, arguments.clip, arguments.pause)
        deployment, outcome = smallest_deployment(
            load, p95=arguments.p95, proxies=proxies, rates=rates, seconds=arguments.seconds
        )
        latencies = [f"{outcome.percentile(share):.2f}" for share in (0.5, 0.95)]
        shares = [f"{100 * share:.0f}" for share in (outcome.replica_utilization, outcome.proxy_utilization)]
        rows.append([str(users), str(proxies), str(deployment.replicas), *latencies, *shares])
    titles = ["users", "proxies", "replicas", "p50 s", "p95 s", "replicas busy %", "proxies busy %"]
    print(markdown_table(titles, rows))


if __name__ == "__main__":
    main()
