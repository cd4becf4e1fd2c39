from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Semaphore, Thread

import pytest

from whisper_server.core.errors import Cancelled, EngineFailed
from whisper_server.inference.request_context import AGEING_SECONDS, Priority, RequestContext
from whisper_server.inference.runtime.batcher import PATIENCE, DynamicBatcher


class Machine:
    """Stands in for a model: records its batches, and runs them when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.alone: list[bool] = []
        self.started = Semaphore(0)
        self.may_run = Semaphore(0)

    def run(self, key: str, payloads: list[int], alone: bool) -> list[int]:
        self.started.release()
        self.may_run.acquire()
        self.batches.append((key, payloads))
        self.alone.append(alone)
        if -1 in payloads:
            raise ValueError("a bad item")
        if -2 in payloads:
            raise SystemExit
        return [payload * 10 for payload in payloads]


class Bench:
    """A batcher with callers, each in a thread of its own, and the machine below it."""

    def __init__(self, workers: int = 1, max_batch_size: int = 4) -> None:
        self.machine = Machine()
        self.batcher = DynamicBatcher[str, int, int](
            self.machine.run,
            workers=workers,
            max_batch_size=lambda key: 1 if key.startswith("single") else max_batch_size,
        )
        self._pool = ThreadPoolExecutor(32)

    def call(self, key: str, payload: int, context: RequestContext | None = None) -> Future[int]:
        """Return when the item waits or runs."""
        before = self.batcher.queued
        future = self._pool.submit(self.batcher.call, key, payload, context or RequestContext())
        while not future.done() and self.batcher.queued == before and not self.machine.started._value:
            pass
        return future

    def occupy(self) -> Future[int]:
        """Keep one worker busy until `let()`, so that everything after it has to wait."""
        future = self._pool.submit(self.batcher.call, "occupied", 0, RequestContext())
        self.machine.started.acquire()
        return future

    def let(self, runs: int = 100) -> None:
        self.machine.may_run.release(runs)

    def close(self) -> None:
        self.let()
        self.batcher.close()
        self._pool.shutdown()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_an_idle_worker_runs_at_once(bench: Bench) -> None:
    bench.let(1)
    assert bench.batcher.call("a", 1, RequestContext()) == 10
    assert bench.machine.batches == [("a", [1])]


def test_what_waits_together_and_fits_runs_together(bench: Bench) -> None:
    occupied = bench.occupy()
    waiting = [bench.call(key, payload) for key, payload in [("a", 1), ("b", 2), ("a", 3), ("a", 4)]]
    bench.let()
    assert [future.result() for future in [occupied, *waiting]] == [0, 10, 20, 30, 40]
    assert bench.machine.batches == [("occupied", [0]), ("a", [1, 3, 4]), ("b", [2])]
    assert (bench.batcher.statistics.batches, bench.batcher.statistics.items) == (3, 5)


def test_a_caller_who_is_alone_is_known() -> None:
    bench = Bench(workers=2)
    bench.let(1)
    bench.batcher.call("alone", 1, RequestContext())
    bench.machine.started.acquire()
    both = [bench.occupy(), bench.occupy()]
    bench.let()
    assert [future.result() for future in both] == [0, 0]
    assert bench.machine.alone[0] is True
    assert sorted(bench.machine.alone[1:]) == [False, True]
    bench.close()


def test_a_batch_has_its_limit(bench: Bench) -> None:
    bench.occupy()
    waiting = [bench.call("a", payload) for payload in range(6)]
    bench.let()
    assert [future.result() for future in waiting] == [0, 10, 20, 30, 40, 50]
    assert [len(payloads) for _, payloads in bench.machine.batches] == [1, 4, 2]


def test_each_kind_of_work_has_its_own_limit(bench: Bench) -> None:
    bench.occupy()
    waiting = [bench.call("single", payload) for payload in range(3)]
    bench.let()
    assert [future.result() for future in waiting] == [0, 10, 20]
    assert [len(payloads) for _, payloads in bench.machine.batches] == [1, 1, 1, 1]


def test_a_full_batch_overtakes_one_that_waits_for_company(bench: Bench) -> None:
    bench.occupy()
    waiting = [bench.call(key, payload) for payload, key in enumerate(["a", "single", "a", "single"])]
    bench.let()
    assert [future.result() for future in waiting] == [0, 10, 20, 30]
    assert bench.machine.batches[1:] == [("single", [1]), ("single", [3]), ("a", [0, 2])]


def test_nothing_is_overtaken_by_what_is_due_much_later(bench: Bench) -> None:
    bench.occupy()
    old = RequestContext()
    old.due -= PATIENCE + 1
    waiting = [bench.call("a", 0, old), bench.call("single", 1)]
    bench.let()
    assert [future.result() for future in waiting] == [0, 10]
    assert bench.machine.batches[1:] == [("a", [0]), ("single", [1])]


def test_within_a_request_the_order_does_not_matter(bench: Bench) -> None:
    bench.occupy()
    context = RequestContext()
    late = context.child(delay=10 * PATIENCE)
    waiting = [bench.call("a", 0, context), bench.call("single", 1, late)]
    bench.let()
    assert [future.result() for future in waiting] == [0, 10]
    assert bench.machine.batches[1:] == [("single", [1]), ("a", [0])]


def test_workers_share_the_parts_of_a_request_unless_there_is_more() -> None:
    bench = Bench(workers=2, max_batch_size=8)
    both = [bench.occupy(), bench.occupy()]
    request = RequestContext()
    waiting = [bench.call("a", payload, request.child(delay=0)) for payload in range(4)]
    bench.let()
    assert [future.result() for future in [*both, *waiting]] == [0, 0, 0, 10, 20, 30]
    assert max(len(payloads) for _, payloads in bench.machine.batches) == 2
    bench.close()


def test_requests_are_not_kept_for_a_worker_that_is_busy() -> None:
    bench = Bench(workers=2, max_batch_size=8)
    both = [bench.occupy(), bench.occupy()]
    waiting = [bench.call("a", payload) for payload in range(4)]
    bench.let(1)
    bench.machine.started.acquire()
    bench.let()
    assert [future.result() for future in [*both, *waiting]] == [0, 0, 0, 10, 20, 30]
    assert max(len(payloads) for _, payloads in bench.machine.batches) == 4
    bench.close()


def test_urgent_work_goes_first(bench: Bench) -> None:
    bench.occupy()
    order = [Priority.BACKGROUND, Priority.INTERACTIVE, Priority.LIVE]
    waiting = [bench.call(priority.name, 1, RequestContext(priority)) for priority in order]
    bench.let()
    assert [future.result() for future in waiting] == [10, 10, 10]
    assert [key for key, _ in bench.machine.batches[1:]] == ["LIVE", "INTERACTIVE", "BACKGROUND"]


def test_old_background_work_goes_before_new_urgent_work(bench: Bench) -> None:
    bench.occupy()
    old = RequestContext(Priority.BACKGROUND)
    old.due -= 2 * AGEING_SECONDS
    waiting = [bench.call("live", 1, RequestContext(Priority.LIVE)), bench.call("old", 1, old)]
    bench.let()
    assert [future.result() for future in waiting] == [10, 10]
    assert [key for key, _ in bench.machine.batches[1:]] == ["old", "live"]


def test_only_the_guilty_item_of_a_batch_fails(bench: Bench) -> None:
    bench.occupy()
    waiting = [bench.call("a", payload) for payload in (1, -1, 2)]
    bench.let()
    assert waiting[0].result() == 10
    assert waiting[2].result() == 20
    with pytest.raises(ValueError, match="a bad item"):
        waiting[1].result()


def test_a_run_that_loses_results_is_an_error() -> None:
    batcher = DynamicBatcher[str, int, int](lambda key, payloads, alone: [], workers=1, max_batch_size=lambda key: 1)
    with pytest.raises(ValueError, match="zip"):
        batcher.call("a", 1, RequestContext())
    batcher.close()


def test_a_crashed_worker_tells_its_callers_and_is_replaced(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.let(2)
    with pytest.raises(EngineFailed, match="crashed: SystemExit"):
        bench.batcher.call("a", -2, RequestContext())
    assert bench.batcher.call("a", 1, RequestContext()) == 10
    assert bench.batcher.statistics.crashes == 1
    assert bench.batcher.healthy
    assert "crashed" in caplog.text


def test_cancelled_work_that_waits_is_dropped(bench: Bench) -> None:
    bench.occupy()
    context = RequestContext()
    waiting = bench.call("a", 1, context)
    context.cancel()
    with pytest.raises(Cancelled):
        waiting.result()
    bench.let()
    assert bench.call("b", 2).result() == 20
    assert "a" not in [key for key, _ in bench.machine.batches]


def test_a_cancelled_ticket_queues_nothing(bench: Bench) -> None:
    context = RequestContext()
    context.cancel()
    with pytest.raises(Cancelled):
        bench.batcher.call("a", 1, context)
    bench.let()
    assert bench.batcher.call("b", 2, RequestContext()) == 20
    assert bench.machine.batches == [("b", [2])]


def test_several_workers_run_at_once() -> None:
    bench = Bench(workers=2)
    both = [bench.occupy(), bench.occupy()]
    bench.let()
    assert [future.result() for future in both] == [0, 0]
    bench.close()


def test_closing_fails_what_waits_and_lets_what_runs_finish(bench: Bench) -> None:
    running, waiting = bench.occupy(), bench.call("a", 1)
    closing = Thread(target=bench.batcher.close)
    closing.start()
    with pytest.raises(EngineFailed, match="unloaded"):
        waiting.result()
    bench.let()
    assert running.result() == 0
    closing.join()
    assert not bench.batcher.healthy
    with pytest.raises(EngineFailed, match="unloaded"):
        bench.batcher.call("a", 1, RequestContext())


def test_a_result_for_each_of_many_callers() -> None:
    def run(key: int, payloads: list[int], alone: bool) -> list[int]:
        return [key * 1000 + payload for payload in payloads]

    batcher = DynamicBatcher[int, int, int](run, workers=3, max_batch_size=lambda key: 5)
    with ThreadPoolExecutor(16) as pool:
        calls = [(n % 4, n) for n in range(2000)]
        results = list(pool.map(lambda call: batcher.call(*call, RequestContext()), calls))
    assert results == [key * 1000 + payload for key, payload in calls]
    batcher.close()


def test_cancelling_from_another_thread_wakes_the_caller() -> None:
    started, proceed = Event(), Event()

    def run(key: str, payloads: list[int], alone: bool) -> list[int]:
        started.set()
        proceed.wait()
        return payloads

    batcher = DynamicBatcher[str, int, int](run, workers=1, max_batch_size=lambda key: 1)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(batcher.call, "a", 1, RequestContext())
        started.wait()
        context = RequestContext()
        outcome = pool.submit(batcher.call, "b", 2, context)
        context.cancel()
        with pytest.raises(Cancelled):
            outcome.result()
        proceed.set()
        assert running.result() == 1
    batcher.close()
