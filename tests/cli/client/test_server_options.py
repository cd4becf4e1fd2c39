from __future__ import annotations

import pytest

from whisper_server.cli.client.server_options import error_message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "no model of that name", "code": "model_not_found"}}', "no model of that name"),
        (b'{"error": "no file"}', "no file"),
        (b"<html>502 Bad Gateway</html>", ""),
        (b'["error"]', ""),
        (b'{"detail": "Not Found"}', ""),
        (b"", ""),
        (b"\xff\xfe", ""),
    ],
)
def test_only_messages_of_the_server_are_returned(body: bytes, message: str) -> None:
    assert error_message(body) == message
