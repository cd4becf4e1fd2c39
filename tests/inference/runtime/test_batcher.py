from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Semaphore, Thread
from typing import TypeVar

import pytest

from whisper_server.core.errors import Cancelled, EngineFailed
from whisper_server.inference.request_context import AGEING_SECONDS, Priority, RequestContext
from whisper_server.inference.runtime.batcher import MAX_OVERTAKING_SECONDS, DynamicBatcher

T = TypeVar("T")


class FakeModel:
    """Records its batches, and runs each when the test allows it."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.otherwise_idle: list[bool] = []
        self.started = Semaphore(0)
        self.may_run = Semaphore(0)

    def run(self, key: str, payloads: list[int], otherwise_idle: bool) -> list[int]:
        self.started.release()
        self.may_run.acquire()
        self.batches.append((key, payloads))
        self.otherwise_idle.append(otherwise_idle)
        if -1 in payloads:
            raise ValueError("a bad item")
        if -2 in payloads:
            raise SystemExit
        return [payload * 10 for payload in payloads]


class AnnouncedContext(RequestContext):
    """Waits like another context, and sets `queued` when it begins to wait."""

    def __init__(self, context: RequestContext) -> None:
        super().__init__(root=context.root)
        self.due = context.due
        self.queued = Event()
        self._context = context

    def wait(self, future: Future[T]) -> T:
        self.queued.set()
        return self._context.wait(future)


class Harness:
    """A batcher in front of a fake model, with a thread for each caller."""

    def __init__(self, workers: int = 1, max_batch_size: int = 4) -> None:
        self.model = FakeModel()
        self.batcher = DynamicBatcher[str, int, int](
            self.model.run,
            workers=workers,
            max_batch_size=lambda key: 1 if key.startswith("single") else max_batch_size,
        )
        self._pool = ThreadPoolExecutor(32)

    def call(self, key: str, payload: int, context: RequestContext | None = None) -> Future[int]:
        """Call in a thread, and return when the item is queued or running."""
        announced = AnnouncedContext(context or RequestContext())
        future = self._pool.submit(self.batcher.call, key, payload, announced)
        announced.queued.wait()
        return future

    def occupy(self) -> Future[int]:
        """Keep one worker busy until `allow()`, so that later items must wait."""
        future = self._pool.submit(self.batcher.call, "occupied", 0, RequestContext())
        self.model.started.acquire()
        return future

    def allow(self, runs: int = 100) -> None:
        self.model.may_run.release(runs)

    def close(self) -> None:
        self.allow()
        self.batcher.close()
        self._pool.shutdown()


@pytest.fixture
def harness() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.close()


def test_an_idle_worker_runs_at_once(harness: Harness) -> None:
    harness.allow(1)
    assert harness.batcher.call("a", 1, RequestContext()) == 10
    assert harness.model.batches == [("a", [1])]


def test_waiting_items_with_equal_keys_run_as_one_batch(harness: Harness) -> None:
    occupied = harness.occupy()
    waiting = [harness.call(key, payload) for key, payload in [("a", 1), ("b", 2), ("a", 3), ("a", 4)]]
    harness.allow()
    assert [future.result() for future in [occupied, *waiting]] == [0, 10, 20, 30, 40]
    assert harness.model.batches == [("occupied", [0]), ("a", [1, 3, 4]), ("b", [2])]
    assert (harness.batcher.statistics.batches, harness.batcher.statistics.items) == (3, 5)


def test_a_single_call_learns_that_everything_else_is_idle() -> None:
    harness = Harness(workers=2)
    harness.allow(1)
    harness.batcher.call("alone", 1, RequestContext())
    harness.model.started.acquire()
    running = [harness.occupy(), harness.occupy()]
    harness.allow()
    assert [future.result() for future in running] == [0, 0]
    assert harness.model.otherwise_idle[0] is True
    assert sorted(harness.model.otherwise_idle[1:]) == [False, True]
    harness.close()


def test_a_batch_has_at_most_max_batch_size_items(harness: Harness) -> None:
    harness.occupy()
    waiting = [harness.call("a", payload) for payload in range(6)]
    harness.allow()
    assert [future.result() for future in waiting] == [0, 10, 20, 30, 40, 50]
    assert [len(payloads) for _, payloads in harness.model.batches] == [1, 4, 2]


def test_each_key_has_its_own_limit(harness: Harness) -> None:
    harness.occupy()
    waiting = [harness.call("single", payload) for payload in range(3)]
    harness.allow()
    assert [future.result() for future in waiting] == [0, 10, 20]
    assert [len(payloads) for _, payloads in harness.model.batches] == [1, 1, 1, 1]


def test_a_full_batch_overtakes_a_smaller_one(harness: Harness) -> None:
    harness.occupy()
    waiting = [harness.call(key, payload) for payload, key in enumerate(["a", "single", "a", "single"])]
    harness.allow()
    assert [future.result() for future in waiting] == [0, 10, 20, 30]
    assert harness.model.batches[1:] == [("single", [1]), ("single", [3]), ("a", [0, 2])]


def test_a_full_batch_does_not_overtake_an_item_that_is_due_much_earlier(harness: Harness) -> None:
    harness.occupy()
    old = RequestContext()
    old.due -= MAX_OVERTAKING_SECONDS + 1
    waiting = [harness.call("a", 0, old), harness.call("single", 1)]
    harness.allow()
    assert [future.result() for future in waiting] == [0, 10]
    assert harness.model.batches[1:] == [("a", [0]), ("single", [1])]


def test_a_full_batch_overtakes_earlier_items_of_its_own_request_without_limit(harness: Harness) -> None:
    harness.occupy()
    context = RequestContext()
    late = context.child(delay=10 * MAX_OVERTAKING_SECONDS)
    waiting = [harness.call("a", 0, context), harness.call("single", 1, late)]
    harness.allow()
    assert [future.result() for future in waiting] == [0, 10]
    assert harness.model.batches[1:] == [("single", [1]), ("a", [0])]


def test_all_workers_share_the_items_of_one_request() -> None:
    harness = Harness(workers=2, max_batch_size=8)
    running = [harness.occupy(), harness.occupy()]
    request = RequestContext()
    waiting = [harness.call("a", payload, request.child(delay=0)) for payload in range(4)]
    harness.allow()
    assert [future.result() for future in [*running, *waiting]] == [0, 0, 0, 10, 20, 30]
    assert max(len(payloads) for _, payloads in harness.model.batches) == 2
    harness.close()


def test_items_of_several_requests_are_not_kept_for_a_busy_worker() -> None:
    harness = Harness(workers=2, max_batch_size=8)
    running = [harness.occupy(), harness.occupy()]
    waiting = [harness.call("a", payload) for payload in range(4)]
    harness.allow(1)
    harness.model.started.acquire()
    harness.allow()
    assert [future.result() for future in [*running, *waiting]] == [0, 0, 0, 10, 20, 30]
    assert max(len(payloads) for _, payloads in harness.model.batches) == 4
    harness.close()


def test_higher_priorities_run_first(harness: Harness) -> None:
    harness.occupy()
    order = [Priority.BACKGROUND, Priority.INTERACTIVE, Priority.LIVE]
    waiting = [harness.call(priority.name, 1, RequestContext(priority)) for priority in order]
    harness.allow()
    assert [future.result() for future in waiting] == [10, 10, 10]
    assert [key for key, _ in harness.model.batches[1:]] == ["LIVE", "INTERACTIVE", "BACKGROUND"]


def test_old_background_work_runs_before_new_live_work(harness: Harness) -> None:
    harness.occupy()
    old = RequestContext(Priority.BACKGROUND)
    old.due -= 2 * AGEING_SECONDS
    waiting = [harness.call("live", 1, RequestContext(Priority.LIVE)), harness.call("old", 1, old)]
    harness.allow()
    assert [future.result() for future in waiting] == [10, 10]
    assert [key for key, _ in harness.model.batches[1:]] == ["old", "live"]


def test_a_batch_failure_is_isolated(harness: Harness) -> None:
    harness.occupy()
    waiting = [harness.call("a", payload) for payload in (1, -1, 2)]
    harness.allow()
    assert waiting[0].result() == 10
    assert waiting[2].result() == 20
    with pytest.raises(ValueError, match="a bad item"):
        waiting[1].result()


def test_too_few_results_are_an_error() -> None:
    batcher = DynamicBatcher[str, int, int](
        lambda key, payloads, otherwise_idle: [], workers=1, max_batch_size=lambda key: 1
    )
    with pytest.raises(ValueError, match="zip"):
        batcher.call("a", 1, RequestContext())
    batcher.close()


def test_a_crashed_worker_fails_its_items_and_is_replaced(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    harness.allow(2)
    with pytest.raises(EngineFailed, match="crashed: SystemExit"):
        harness.batcher.call("a", -2, RequestContext())
    assert harness.batcher.call("a", 1, RequestContext()) == 10
    assert harness.batcher.statistics.crashes == 1
    assert harness.batcher.healthy
    assert "crashed" in caplog.text


def test_cancelled_items_leave_the_queue(harness: Harness) -> None:
    harness.occupy()
    context = RequestContext()
    waiting = harness.call("a", 1, context)
    context.cancel()
    with pytest.raises(Cancelled):
        waiting.result()
    harness.allow()
    assert harness.call("b", 2).result() == 20
    assert "a" not in [key for key, _ in harness.model.batches]


def test_a_cancelled_request_queues_nothing(harness: Harness) -> None:
    context = RequestContext()
    context.cancel()
    with pytest.raises(Cancelled):
        harness.batcher.call("a", 1, context)
    harness.allow()
    assert harness.batcher.call("b", 2, RequestContext()) == 20
    assert harness.model.batches == [("b", [2])]


def test_several_workers_run_at_the_same_time() -> None:
    harness = Harness(workers=2)
    running = [harness.occupy(), harness.occupy()]
    harness.allow()
    assert [future.result() for future in running] == [0, 0]
    harness.close()


def test_closing_fails_waiting_items_and_lets_running_ones_finish(harness: Harness) -> None:
    running, waiting = harness.occupy(), harness.call("a", 1)
    closing = Thread(target=harness.batcher.close)
    closing.start()
    with pytest.raises(EngineFailed, match="unloaded"):
        waiting.result()
    harness.allow()
    assert running.result() == 0
    closing.join()
    assert not harness.batcher.healthy
    with pytest.raises(EngineFailed, match="unloaded"):
        harness.batcher.call("a", 1, RequestContext())


def test_each_of_many_callers_gets_its_own_result() -> None:
    def run(key: int, payloads: list[int], otherwise_idle: bool) -> list[int]:
        return [key * 1000 + payload for payload in payloads]

    batcher = DynamicBatcher[int, int, int](run, workers=3, max_batch_size=lambda key: 5)
    with ThreadPoolExecutor(16) as pool:
        calls = [(n % 4, n) for n in range(2000)]
        results = list(pool.map(lambda call: batcher.call(call[0], call[1], RequestContext()), calls))
    assert results == [key * 1000 + payload for key, payload in calls]
    batcher.close()


def test_cancelling_from_another_thread_wakes_the_caller() -> None:
    started, proceed = Event(), Event()

    def run(key: str, payloads: list[int], otherwise_idle: bool) -> list[int]:
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
