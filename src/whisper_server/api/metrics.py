"""Metrics for Prometheus, as `GET /metrics` returns them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    StateSetMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from whisper_server.core.errors import (
    Cancelled,
    HostRefused,
    OriginRefused,
    Overloaded,
    ServerStopping,
    TooManyRequests,
    Unauthorized,
    UploadTimedOut,
)
from whisper_server.engine.model_admin import WEIGHT_STATES, ModelAdmin
from whisper_server.inference.runtime.memory_backoff import STEPS
from whisper_server.jobs.job import STATES
from whisper_server.jobs.service import Jobs
from whisper_server.live.session_limits import SessionLimits

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET")
PROTOCOLS = ("stream", "http", "realtime", "listen")
_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
# Seconds of work per second of audio: below 1, transcription is faster than real time.
_FACTORS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5)
_REASONS: dict[type[Exception], str] = {
    Unauthorized: "unauthorized",
    OriginRefused: "origin",
    HostRefused: "host",
    TooManyRequests: "rate_limited",
    Overloaded: "overloaded",
    UploadTimedOut: "upload_timed_out",
    ServerStopping: "stopping",
}


class Metrics:
    """Counts requests and audio, and reads the statistics of models, jobs and sessions when it is scraped."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(namespace="whisper", registry=self._registry)
        counter = partial(Counter, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry)
        self._requests = counter("whisper_requests", "Finished requests.", ("method", "route", "status"))
        self._latency = histogram(
            "whisper_request_seconds",
            "Time from the headers of a request to the end of its response.",
            ("method", "route"),
            buckets=_SECONDS,
        )
        self.in_progress = Gauge("whisper_requests_in_progress", "Requests in progress.", registry=self._registry)
        self._rejected = counter("whisper_rejected", "Refused requests, by reason.", ("reason",))
        for reason in _REASONS.values():
            self._rejected.labels(reason)
        self._cancelled = counter(
            "whisper_cancelled", "Requests that ended with their client's connection or a shutdown."
        )
        self._audio = counter("whisper_audio_seconds", "Transcribed audio, in seconds.")
        self._factor = histogram("whisper_real_time_factor", "Seconds of work per second of audio.", buckets=_FACTORS)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a finished request of HTTP or a WebSocket."""
        method = scope.get("method", "WEBSOCKET")
        method = method if method in _METHODS else "OTHER"
        route = getattr(scope.get("route"), "path", "none")
        self.finished(method, route, status, seconds, scope.get("state", {}).get("failure"))

    def finished(
        self, method: str, route: str, status: int, seconds: float, failure: type[Exception] | None = None
    ) -> None:
        """Count a finished request; `method` and `route` must not have values that clients can choose freely."""
        self._requests.labels(method, route, status).inc()
        self._latency.labels(method, route).observe(seconds)
        if failure in (ClientDisconnect, Cancelled):
            self._cancelled.inc()
        elif failure in _REASONS:
            self._rejected.labels(_REASONS[failure]).inc()

    def transcribed(self, audio_seconds: float, seconds: float) -> None:
        """Count transcribed audio and the time it took, in seconds."""
        self._audio.inc(audio_seconds)
        if audio_seconds > 0:
            self._factor.observe(seconds / audio_seconds)

    @contextmanager
    def watching(self, models: ModelAdmin, jobs: Jobs, sessions: SessionLimits) -> Iterator[None]:
        """Include the statistics of these during the block."""
        collector = _StatisticsCollector(models, jobs, sessions)
        self._registry.register(collector)
        try:
            yield
        finally:
            self._registry.unregister(collector)


class _StatisticsCollector(Collector):
    def __init__(self, models: ModelAdmin, jobs: Jobs, sessions: SessionLimits) -> None:
        self._models = models
        self._jobs = jobs
        self._sessions = sessions

    def collect(self) -> Iterator[Metric]:
        yield from _model_metrics(self._models)
        yield from _job_metrics(self._jobs)
        yield from _session_metrics(self._sessions)


def _model_metrics(models: ModelAdmin) -> Iterator[Metric]:
    now = models.statistics()
    model = {"name": now.model, "device": now.device, "compute_type": now.compute_type}
    yield InfoMetricFamily("whisper_model", "The model for new requests.", model)
    yield GaugeMetricFamily("whisper_ready", "Whether requests are served.", value=models.ready)
    yield GaugeMetricFamily(
        "whisper_model_memory_bytes", "Memory that loading the models took, in bytes.", value=now.memory
    )
    yield GaugeMetricFamily("whisper_queue_length", "Model calls that wait for a worker.", value=now.queued)
    yield SummaryMetricFamily(
        "whisper_batch_size",
        "Model calls per batch; restarts with each model.",
        count_value=now.batches,
        sum_value=now.calls,
    )
    states: dict[str, bool] = {state: state == now.weight_state for state in WEIGHT_STATES}
    yield StateSetMetricFamily("whisper_model_state", "State of the model's weights.", states)
    steps = CounterMetricFamily(
        "whisper_memory_steps", "Steps taken when memory ran out, and recoveries.", labels=("step",)
    )
    for step in STEPS:
        steps.add_metric((step,), now.steps.get(step, 0))
    yield steps
    yield CounterMetricFamily("whisper_worker_crashes", "Workers that crashed.", value=now.crashes)


def _job_metrics(jobs: Jobs) -> Iterator[Metric]:
    stored = GaugeMetricFamily("whisper_jobs", "Stored jobs, by state.", labels=("state",))
    for state in STATES:
        stored.add_metric((state,), jobs.counts[state])
    yield stored
    yield GaugeMetricFamily("whisper_jobs_available", "Whether jobs are available.", value=jobs.available)


def _session_metrics(sessions: SessionLimits) -> Iterator[Metric]:
    current = GaugeMetricFamily("whisper_live_sessions", "Open live sessions.", labels=("protocol",))
    opened = CounterMetricFamily("whisper_live_sessions_opened", "Live sessions.", labels=("protocol",))
    for protocol in PROTOCOLS:
        current.add_metric((protocol,), sessions.current[protocol])
        opened.add_metric((protocol,), sessions.opened[protocol])
    yield current
    yield opened
