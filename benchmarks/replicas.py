"""The application as replicas on a Ray of its own, on this machine only, gone afterwards.

python benchmarks/replicas.py --replicas 2 model=tiny.en device=cpu
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Read when Ray is imported, and by its processes.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "whisper_server.cluster.proxy:middlewares",
    # Workers would have a niceness of 15, and all other processes of the machine would go before them.
    "RAY_worker_niceness": "0",
    # Machines of tests are full at times, and Ray would end its own workers.
    "RAY_memory_monitor_refresh_ms": "0",
}
_OBJECTS = 100_000_000


@contextmanager
def ray_here(cpus: int = 4) -> Iterator[None]:
    """A Ray of one node in processes of its own, until the end of the block."""
    os.environ.update(QUIET)
    import ray

    ray.init(num_cpus=cpus, include_dashboard=False, object_store_memory=_OBJECTS, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def running_replicas(replicas: int | None, given: Mapping[str, Any], **options: Any) -> Iterator[str]:
    """Yield the address of so many replicas on the Ray that runs; `options` are those of their deployment.

    None leaves the number to them.
    """
    from ray import serve

    from whisper_server.cluster import app

    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run(with_options(app(given), **({"num_replicas": replicas} if replicas else {}), **options))
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()


def with_options(application: Any, **options: Any) -> Any:
    """The application with these options of its replicas, as a configuration file gives them."""
    from ray.serve import Application

    bound = application._bound_deployment
    small = {"ray_actor_options": {"num_cpus": 0.1}}
    return Application(bound.options(**{**small, **options}))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("settings", nargs="*", help="such as model=tiny.en")
    asked = parser.parse_args()
    given = dict(setting.split("=", 1) for setting in asked.settings)
    try:
        with ray_here(), running_replicas(asked.replicas, given) as url:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has set its own
            print(f"serving on {url}", file=sys.stderr, flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
