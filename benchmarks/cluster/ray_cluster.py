"""The application on a temporary Ray cluster on this machine.

python -m benchmarks.cluster.ray_cluster --replicas 2 model=tiny.en device=cpu
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from benchmarks.report import argument_parser
from benchmarks.server_process import free_port

# Read when Ray is imported, and by its processes.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "whisper_server.cluster.proxy:middlewares",
    # Workers would have a niceness of 15, so that all other processes on the machine would take precedence.
    "RAY_worker_niceness": "0",
    # Ray would kill its workers when the memory of the machine is nearly full.
    "RAY_memory_monitor_refresh_ms": "0",
}
OBJECT_STORE_BYTES = 100_000_000
# Settings of one small replica on a CPU
CPU_SETTINGS: Mapping[str, Any] = {
    "model": "tiny.en",
    "device": "cpu",
    "offline": True,
    "measure": False,
    "workers": 1,
    "auth": False,
}
# Seconds that a request, or a change of the cluster, may take
TIMEOUT = 240.0


@contextmanager
def single_node_ray(cpus: int = 4) -> Iterator[None]:
    os.environ.update(RAY_ENVIRONMENT)
    import ray

    ray.init(num_cpus=cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def running_replicas(replicas: int | None, settings: Mapping[str, Any], **options: Any) -> Iterator[str]:
    """Yield the URL of the application on the running Ray; `options` are those of the deployment of its replicas.

    If `replicas` is None, the options determine the number.
    """
    from ray import serve

    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        deploy(settings, **({"num_replicas": replicas} if replicas else {}), **options)
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()


def deploy(settings: Mapping[str, Any], **options: Any) -> None:
    """Deploy the application, or replace the running one; `options` are applied as a configuration file's."""
    from ray import serve
    from ray.serve import Application

    from whisper_server.cluster import app

    deployment = app(dict(settings))._bound_deployment
    serve.run(Application(deployment.options(**{"ray_actor_options": {"num_cpus": 0.1}, **options})))


def replica_ids(url: str) -> set[str]:
    """The ids of all replicas, also of those that load a model. Raises HTTPStatusError if no replica responds."""
    response = httpx2.get(f"{url}/ready", timeout=TIMEOUT).raise_for_status()
    return {replica["replica"] for replica in response.json()["replicas"]}


def wait_until(condition: Callable[[], bool]) -> float:
    """Return the seconds until the condition was true."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < TIMEOUT, f"the condition was not true within {TIMEOUT:g} s"
        time.sleep(0.2)
    return time.monotonic() - started


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("settings", nargs="*", help="such as model=tiny.en")
    arguments = parser.parse_args()
    settings = dict(setting.split("=", 1) for setting in arguments.settings)
    try:
        with single_node_ray(), running_replicas(arguments.replicas, settings) as url:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has installed a handler of its own
            print(f"serving on {url}", file=sys.stderr, flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
