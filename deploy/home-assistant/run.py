"""Runs whisper-server with the options of the add-on, and tells Home Assistant when it can be used."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

DATA = Path("/data")
PORT = 10300
# The server needs no privileges.
USER = 10001
SUPERVISOR = "http://supervisor/discovery"


def settings(options: Mapping[str, object], data: Path) -> dict[str, str]:
    """Return the variables of the server; each option is the setting of the same name."""
    variables = {
        f"WHISPER_SERVER_{name.upper()}": str(value) for name, value in options.items() if value not in (None, "")
    }
    cache = data / "cache"
    return {
        **variables,
        "WHISPER_SERVER_WYOMING": f"tcp://0.0.0.0:{PORT}",
        "WHISPER_SERVER_JOBS": "false",
        "XDG_CACHE_HOME": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "HOME": str(cache),
    }


def main() -> int:
    """Return the exit status of the server."""
    options = json.loads((DATA / "options.json").read_text())
    cache = DATA / "cache"
    cache.mkdir(exist_ok=True)
    os.chown(cache, USER, USER)
    token = os.environ.pop("SUPERVISOR_TOKEN", "")
    environ = {**os.environ, **settings(options, DATA)}
    server = subprocess.Popen(["whisper-server"], env=environ, user=USER, group=USER, extra_groups=[])
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    if wait_until_open(server):
        announce(token, SUPERVISOR)
    return server.wait()


def wait_until_open(server: subprocess.Popen[bytes]) -> bool:
    """Wait until the port opens; returns False if the server ends before."""
    while server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", PORT), 1).close()
            return True
        except OSError:
            time.sleep(0.5)
    return False


def announce(token: str, url: str) -> None:
    """Let Home Assistant offer the server in Settings → Devices & services. Without that, it can be added by hand."""
    content = {"service": "wyoming", "config": {"uri": f"tcp://{socket.gethostname()}:{PORT}"}}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(content).encode(), headers)
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except OSError as exc:
        print(f"Home Assistant could not be told about the server: {exc}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
