"""Live sessions on two replicas, one of which is removed.

    python -m benchmarks.cluster.draining

Reports the WebSocket close codes of the sessions; None is a session that was not closed.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.cluster.ray_cluster import CPU_SETTINGS, deploy, running_replicas, single_node_ray
from benchmarks.report import argument_parser

_SESSIONS = 8
_SECONDS = 40.0
_FRAME_SECONDS = 0.1
_SILENT_FRAME = bytes(3200)


async def _stream_silence(socket: ClientConnection, until: float) -> int | None:
    """Return the code with which the server closed the session, if it did."""
    try:
        while time.monotonic() < until:
            await socket.send(_SILENT_FRAME)
            await asyncio.sleep(_FRAME_SECONDS)
    except ConnectionClosed as exc:
        return exc.rcvd.code if exc.rcvd else 1006
    return None


async def _close_codes(url: str, settings: dict[str, object]) -> Counter[int | None]:
    sockets = [await connect(url.replace("http", "ws") + "/v1/stream?encoding=pcm16") for _ in range(_SESSIONS)]
    until = time.monotonic() + _SECONDS
    sessions = [asyncio.create_task(_stream_silence(socket, until)) for socket in sockets]
    removal = asyncio.create_task(asyncio.to_thread(deploy, settings, num_replicas=1))
    codes = Counter(await asyncio.gather(*sessions))
    await removal
    for socket in sockets:
        await socket.close()
    return codes


def main() -> None:
    argument_parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as data_dir, single_node_ray():
        settings = {**CPU_SETTINGS, "data_dir": data_dir}
        with running_replicas(2, settings) as url:
            print(f"close codes of the sessions: {dict(asyncio.run(_close_codes(url, settings)))}")


if __name__ == "__main__":
    main()
