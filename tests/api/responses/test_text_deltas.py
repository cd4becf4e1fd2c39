from __future__ import annotations

from whisper_server.api.responses.text_deltas import TextDeltas


def test_the_deltas_concatenate_to_the_stripped_text() -> None:
    deltas = TextDeltas()
    parts = [deltas.next(text) for text in (" ", " Hello,", " ", " world. ", "Bye. ", " ")]
    assert parts == ["", "Hello,", "", "  world.", " Bye.", ""]
    assert deltas.text == "".join(parts) == "Hello,  world. Bye."
