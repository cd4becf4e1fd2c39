"""A local model hub with one repository that implements the part of the Hugging Face API that a download needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import huggingface_hub.constants
import huggingface_hub.file_download
import huggingface_hub.hf_api
import huggingface_hub.utils
import pytest

REPOSITORY = "stand-in/whisper"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b"{}",
    "model.bin": b"weights" * 1000,
    "tokenizer.json": b'{"version": "1.0"}',
    "vocabulary.txt": b"a\nb\n",
    "README.md": b"not for the server",
}


class StandInHub:
    """Records `requests` as "METHOD /path". `failures` maps paths to a status and the hub's error code."""

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        self.repository = repository
        self.files = files
        self.requests: list[str] = []
        self.failures: dict[str, tuple[int, str]] = {}
        self.url = ""

    def fail(self, path: str, status: int, code: str = "") -> None:
        self.failures[path] = (status, code)

    def fail_downloads(self, name: str, status: int) -> None:
        self.fail(f"/{self.repository}/resolve/{COMMIT}/{name}", status)

    def respond(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of a GET."""
        if path in self.failures:
            status, code = self.failures[path]
            return status, {"X-Error-Code": code, "X-Error-Message": "simulated failure"}, b""
        api, pages = f"/api/models/{self.repository}", f"/{self.repository}/resolve/"
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            siblings = [{"rfilename": name, "size": len(body)} for name, body in self.files.items()]
            return _json({"id": self.repository, "modelId": self.repository, "sha": COMMIT, "siblings": siblings})
        if path in (f"{api}/tree/main", f"{api}/tree/{COMMIT}"):
            return _json([{"type": "file", **self._metadata(name)} for name in self.files])
        revision, _, name = path.removeprefix(pages).partition("/")
        if path.startswith(pages) and revision in ("main", COMMIT) and name in self.files:
            headers = {"ETag": f'"{self._metadata(name)["oid"]}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            return 200, headers, self.files[name]
        return 404, {"X-Error-Code": "EntryNotFound" if path.startswith(pages) else "RepoNotFound"}, b""

    def _metadata(self, name: str) -> dict[str, object]:
        body = self.files[name]
        return {"path": name, "size": len(body), "oid": hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()}


def _json(body: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        status, headers, body = self.hub.respond(path)
        if status == 200 and (byte_range := self.headers.get("Range")):
            start = int(byte_range.removeprefix("bytes=").partition("-")[0])
            status, headers = 206, {**headers, "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            body = body[start:]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


class _EndlessHeader(BaseHTTPRequestHandler):
    """Sends a header that never ends, so that no read by the client times out."""

    stopped: Event

    def do_GET(self) -> None:
        try:
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
            while not self.stopped.wait(0.02):
                self.wfile.write(b"x")
        except OSError:
            pass

    do_HEAD = do_GET


@contextmanager
def use_hub(url: str, cache: Path) -> Iterator[None]:
    """Make `huggingface_hub` use another hub and cache; it reads its environment only on import."""
    close = getattr(huggingface_hub.utils, "close_session", None) or huggingface_hub.utils.reset_sessions
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {
            "ENDPOINT": url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": True,
        }.items():
            patched.setattr(huggingface_hub.constants, name, value)
        patched.setattr(huggingface_hub.hf_api.api, "endpoint", url)
        # Before 1.0 this module kept its own copy.
        patched.setattr(huggingface_hub.file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        patched.setenv("NO_PROXY", "127.0.0.1")
        close()
        try:
            yield
        finally:
            close()


@contextmanager
def serving_hub(repository: str = REPOSITORY) -> Iterator[StandInHub]:
    hub = StandInHub(repository, FILES)
    with _serving(type("Handler", (_Handler,), {"hub": hub})) as hub.url:
        yield hub


@contextmanager
def serving_endless_header() -> Iterator[str]:
    """Yield the address of a hub whose responses never end."""
    stopped = Event()
    with _serving(type("EndlessHeader", (_EndlessHeader,), {"stopped": stopped})) as url:
        try:
            yield url
        finally:
            stopped.set()


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="stand-in-hub")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
