from __future__ import annotations

import pytest

from whisper_server.api.sse import sse


def test_an_event_has_json_data_and_optionally_a_type_and_an_id() -> None:
    assert sse({"text": "é\n"}) == 'data: {"text": "é\\n"}\n\n'.encode()
    assert sse({}, event="job.started", id=3) == b"id: 3\nevent: job.started\ndata: {}\n\n"


def test_data_that_is_not_json_serialisable_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        sse({"score": float("nan")})
