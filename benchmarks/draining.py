"""Live sessions on two replicas, of which one is taken away.

    python benchmarks/draining.py

Says with which codes the sessions closed that were on it, after how long, and whether the others went on.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter

from ray import serve
from replicas import ray_here, running_replicas, with_options
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

_SESSIONS = 8
_SECONDS = 40.0
_SILENCE = bytes(3200)


async def _talk(socket: ClientConnection, until: float) -> int | None:
    """Return the code with which the server closed, if it did."""
    try:
        while time.monotonic() < until:
            await socket.send(_SILENCE)
            await asyncio.sleep(0.1)
    except ConnectionClosed as exc:
        return exc.rcvd.code if exc.rcvd else 1006
    return None


async def _drained(url: str, fewer: object) -> Counter[int | None]:
    sockets = [await connect(url.replace("http", "ws") + "/v1/stream?encoding=pcm16") for _ in range(_SESSIONS)]
    until = time.monotonic() + _SECONDS
    talking = [asyncio.create_task(_talk(socket, until)) for socket in sockets]
    deploying = asyncio.create_task(asyncio.to_thread(serve.run, fewer))
    codes = Counter(await asyncio.gather(*talking))
    await deploying
    for socket in sockets:
        await socket.close()
    return codes


def main() -> None:
    given = {"model": "tiny.en", "device": "cpu", "offline": True, "autotune": False, "workers": 1, "auth": False}
    with tempfile.TemporaryDirectory() as data, ray_here():
        given["data_dir"] = data
        with running_replicas(2, given) as url:
            from whisper_server.cluster import app

            fewer = with_options(app(given), num_replicas=1)
            print(f"closed with: {dict(asyncio.run(_drained(url, fewer)))}")


if __name__ == "__main__":
    main()
