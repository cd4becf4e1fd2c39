"""What is common to all WebSockets."""

from __future__ import annotations

import pytest
from servers import live_server
from starlette.testclient import TestClient, WebSocketDenialResponse
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect


@pytest.mark.parametrize("path", ["/v1/nowhere", "/nowhere", "/v1/models", "/v1/jobs/x/events"])
def test_an_unknown_path_is_refused_with_a_reason(client: TestClient, path: str) -> None:
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect(path):
        pass
    assert caught.value.status_code == 404
    assert f"there is no WebSocket at {path}" in caught.value.text


def test_refused_handshakes_are_no_errors_in_the_log() -> None:
    """Each is one line of the request log, and one that says why."""
    with live_server("--lazy-load", "--no-jobs", WHISPER_SERVER_API_KEY="a-key-of-the-tests") as server:
        url = server.url.replace("http", "ws")
        for path in ("/v1/listen", "/v1/nowhere?api_key=a-key-of-the-tests", "/v2/listen?api_key=a-key-of-the-tests"):
            with pytest.raises(InvalidStatus), connect(url + path):
                pass
        assert server.stop() == 0
        log = server.remaining_log()
    assert log.count("WEBSOCKET /v") == 3
    assert "ERROR" not in log and "Traceback" not in log
