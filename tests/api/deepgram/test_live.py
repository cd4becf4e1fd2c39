"""`WS /v1/listen` over scripted sessions: the messages for Deepgram's clients and their order, and every refusal."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from api.routes.test_stream import remaining_messages
from recorder import pcm16, wav
from scripted import UTTERANCE, Script, scripted, word
from starlette.testclient import WebSocketDenialResponse, WebSocketTestSession

from whisper_server.core.errors import EngineFailed
from whisper_server.live.events import Final, Update
from whisper_server.live.pcm_stream import SAMPLE_RATE

SECOND = pcm16(np.zeros(SAMPLE_RATE, np.float32))
URL = "/v1/listen?encoding=linear16&sample_rate=16000"


def results(messages: list[dict[str, Any]]) -> list[tuple[str, bool, bool, bool]]:
    """Return the text of each result, and whether it is final, ends an utterance and is due to Finalize."""
    return [
        (
            message["channel"]["alternatives"][0]["transcript"],
            message["is_final"],
            message["speech_final"],
            message["from_finalize"],
        )
        for message in messages
        if message["type"] == "Results"
    ]


def transcribe(websocket: WebSocketTestSession, *frames: bytes) -> list[dict[str, Any]]:
    for frame in frames:
        websocket.send_bytes(frame)
    websocket.send_json({"type": "CloseStream"})
    messages, code, _ = remaining_messages(websocket)
    assert code == 1000
    return messages


# Two clauses in 4.4 s, whose words are confirmed one after the other.
CLAUSES = "When the kettle boils, make the tea and bring it here."
SENTENCE = tuple(
    word(f" {text}", 0.1 + 0.4 * number, 0.4 + 0.4 * number)
    for number, text in enumerate(
        ["When", "the", "kettle", "boils,", "make", "the", "tea", "and", "bring", "it", "here."]
    )
)
STEPS = tuple(
    (round(0.8 + 0.4 * number, 1), Update(0, (confirmed,), (), 0.8 + 0.4 * number, "en"))
    for number, confirmed in enumerate(SENTENCE[:-1])
)
SPOKEN_SENTENCE = Script((*STEPS, (5.0, Final(0, SENTENCE, 0.0, 4.4, 5.0, "en", False))))


def test_a_final_result_is_a_clause_and_they_concatenate_to_the_text() -> None:
    with scripted(SPOKEN_SENTENCE) as (client, _), client.websocket_connect(URL) as websocket:
        messages = transcribe(websocket, *[SECOND[:3200]] * 60)
    assert results(messages) == [
        ("When the kettle boils,", True, False, False),
        ("make the tea and bring it here.", True, True, False),
    ]
    first = messages[0]
    assert (first["start"], first["duration"], first["channel_index"]) == (0.0, 1.6, [0, 1])
    assert (messages[1]["start"], messages[1]["duration"]) == (1.6, 2.8)
    assert first["channel"]["alternatives"][0]["words"][3] == {
        "word": "boils",
        "start": 1.3,
        "end": 1.6,
        "confidence": 0.9,
        "punctuated_word": "boils,",
    }
    assert first["metadata"]["model_info"]["name"] == "tiny.en"


def test_an_utterance_that_was_confirmed_at_once_has_a_result_for_each_clause() -> None:
    script = Script(((2.0, Final(0, SENTENCE, 0.0, 4.4, 5.0, "en", False)),))
    with scripted(script) as (client, _), client.websocket_connect(URL) as websocket:
        messages = transcribe(websocket, SECOND, SECOND)
    assert results(messages) == [
        ("When the kettle boils,", True, False, False),
        ("make the tea and bring it here.", True, True, False),
    ]


def test_interim_results_have_all_words_since_the_last_final() -> None:
    url = f"{URL}&interim_results=true"
    with scripted(SPOKEN_SENTENCE) as (client, _), client.websocket_connect(url) as websocket:
        messages = transcribe(websocket, *[SECOND[:3200]] * 60)
    texts = [(text, final) for text, final, *_ in results(messages)]
    assert texts[4:8] == [
        ("When the kettle boils, make", False),
        ("When the kettle boils,", True),
        ("make the", False),
        ("make the tea", False),
    ]


def test_multilingual_results_name_the_language() -> None:
    url = f"{URL}&language=multi"
    with scripted(SPOKEN_SENTENCE) as (client, _), client.websocket_connect(url) as websocket:
        messages = transcribe(websocket, *[SECOND[:3200]] * 60)
    alternatives = [message["channel"]["alternatives"][0] for message in messages[:-1]]
    assert [alternative["languages"] for alternative in alternatives] == [["en"], ["en"]]
    assert {word["language"] for alternative in alternatives for word in alternative["words"]} == {"en"}


def test_interim_results_have_unconfirmed_words() -> None:
    with scripted() as (client, session_factory), client.websocket_connect(f"{URL}&interim_results=true") as websocket:
        messages = transcribe(websocket, SECOND, SECOND)
    assert results(messages) == [
        ("The kettle", False, False, False),
        ("The kettle is of", False, False, False),
        ("The kettle is on.", True, True, False),
    ]
    assert (messages[1]["start"], messages[1]["duration"]) == (0.0, 1.3)


def test_a_comma_in_a_later_update_joins_its_word() -> None:
    first, second = word(" stove", 0.2), word(",", 0.4)
    script = Script(
        (
            (0.5, Update(0, (first,), (), 0.5)),
            (1.0, Update(0, (second, word(" and", 0.6)), (), 1.0)),
            (1.5, Final(0, (first, second, word(" and", 0.6)), 0.1, 0.8, 1.5, "en", False)),
        )
    )
    with scripted(script) as (client, _), client.websocket_connect(URL) as websocket:
        messages = transcribe(websocket, *[SECOND[:16_000]] * 4)
    (result,) = messages[:-1]
    assert [w["punctuated_word"] for w in result["channel"]["alternatives"][0]["words"]] == ["stove,", "and"]


def test_options_for_interim_results_reach_the_session() -> None:
    with scripted() as (client, session_factory), client.websocket_connect(f"{URL}&interim_results=true") as websocket:
        transcribe(websocket)
    assert session_factory.sessions[0].options.partials


def test_the_last_message_is_a_summary() -> None:
    with scripted() as (client, _), client.websocket_connect(URL) as websocket:
        summary = transcribe(websocket, SECOND, SECOND)[-1]
    assert (summary["type"], summary["duration"], summary["channels"]) == ("Metadata", 2.0, 1)
    assert summary["sha256"] == sha256(SECOND * 2).hexdigest()


def test_speech_started_and_utterance_end_are_sent_on_request() -> None:
    url = f"{URL}&vad_events=true&utterance_end_ms=1000"
    with scripted() as (client, _), client.websocket_connect(url) as websocket:
        messages = transcribe(websocket, *[SECOND[:3200]] * 30)
    kinds = [message["type"] for message in messages]
    assert kinds == ["SpeechStarted", "Results", "UtteranceEnd", "Metadata"]
    assert messages[0] == {"type": "SpeechStarted", "channel": [0], "timestamp": 0.1}
    assert messages[-2] == {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 1.4}


def test_utterance_end_is_not_sent_while_speech_continues() -> None:
    again = Final(1, (word(" Yes.", 2.0),), 1.9, 2.2, 2.4, "en", False)
    script = Script((*UTTERANCE, (2.1, UTTERANCE[1][1]), (2.3, again)))
    with scripted(script) as (client, _), client.websocket_connect(f"{URL}&utterance_end_ms=1000") as websocket:
        messages = transcribe(websocket, *[SECOND[:3200]] * 35)
    ends = [message["last_word_end"] for message in messages if message["type"] == "UtteranceEnd"]
    assert ends == [2.2]


def test_finalize_returns_a_final_result() -> None:
    script = Script(events=(), final=(word(" Yes.", 0.1),))
    with scripted(script) as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(SECOND)
        websocket.send_json({"type": "Finalize"})
        assert results([websocket.receive_json()]) == [("Yes.", True, True, True)]
        assert transcribe(websocket)[-1]["type"] == "Metadata"


def test_without_endpointing_no_result_is_speech_final() -> None:
    with scripted() as (client, session_factory), client.websocket_connect(f"{URL}&endpointing=false") as websocket:
        messages = transcribe(websocket, SECOND, SECOND)
    assert not any(speech_final for _, _, speech_final, _ in results(messages))
    assert session_factory.sessions[0].options.endpoint_ms == 500


def test_options_reach_the_session() -> None:
    query = "model=nova-3&language=de-AT&endpointing=10&keyterm=Kettle&keyterm=Tea&keywords=Pot:2&smart_format=true"
    with scripted() as (client, session_factory), client.websocket_connect(f"{URL}&{query}") as websocket:
        transcribe(websocket)
    options = session_factory.sessions[0].options
    assert (options.model, options.language, options.endpoint_ms) == ("", "de", 200)
    assert options.prompt == "Kettle, Tea, Pot"


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("", wav(SECOND, size=0)),
        ("encoding=mulaw", b"\xff" * 8_000),
        ("encoding=alaw&sample_rate=16000", b"\xd5" * 16_000),
        ("encoding=linear16&sample_rate=8000&channels=2", SECOND),
    ],
)
def test_every_encoding_is_decoded(query: str, sent: bytes) -> None:
    with scripted(Script(())) as (client, _), client.websocket_connect(f"/v1/listen?{query}") as websocket:
        assert transcribe(websocket, sent)[-1]["duration"] == pytest.approx(1, abs=0.001)


def test_messages_without_effect_are_accepted() -> None:
    with scripted(Script(())) as (client, _), client.websocket_connect(f"{URL}&diarize=false&redact=") as websocket:
        websocket.send_json({"type": "KeepAlive"})
        websocket.send_json({"type": "Configure", "keyterms": ["a"]})
        assert websocket.receive_json()["type"] == "ConfigureFailure"
        websocket.send_bytes(b"")
        messages, code, _ = remaining_messages(websocket)
    assert ([message["type"] for message in messages], code) == (["Metadata"], 1000)


@pytest.mark.parametrize("sent", ["no JSON", '{"type": "Shout"}'])
def test_invalid_input_ends_the_session_with_an_error(sent: str) -> None:
    with scripted() as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_text(sent)
        messages, code, _ = remaining_messages(websocket)
    assert (messages[-1]["type"], messages[-1]["variant"], code) == ("Error", "invalid_message", 1008)


def test_parameters_without_effect_are_named_in_the_metadata() -> None:
    url = f"{URL}&diarize=true&profanity_filter=true&multichannel=true&search=tea&smart_format=true&dictation=false"
    with scripted(Script(())) as (client, _), client.websocket_connect(url) as websocket:
        summary = transcribe(websocket)[-1]
    assert [warning["parameter"] for warning in summary["warnings"]] == [
        "diarize",
        "profanity_filter",
        "search",
        "multichannel",
    ]
    assert summary["warnings"][0]["message"] == "diarize is ignored: speakers are not identified"


@pytest.mark.parametrize("model", ["nova-3", "Nova-2-meeting", "whisper-large", "base", "enhanced-general", "general"])
def test_deepgrams_models_mean_the_served_model(model: str) -> None:
    url = f"{URL}&model={model}"
    with scripted(Script(())) as (client, session_factory), client.websocket_connect(url) as websocket:
        transcribe(websocket)
    assert session_factory.sessions[0].options.model == ""


def test_errors_are_reported() -> None:
    with scripted(Script(fails=EngineFailed("crashed"))) as (client, _), client.websocket_connect(URL) as websocket:
        websocket.send_bytes(SECOND)
        messages, code, _ = remaining_messages(websocket)
    assert (messages[-1]["description"], code) == ("crashed", 1011)
    with scripted() as (client, _), client.websocket_connect("/v1/listen") as websocket:
        websocket.send_bytes(b"OggS" + bytes(10))
        messages, code, _ = remaining_messages(websocket)
    assert (messages[-1]["variant"], code) == ("invalid_audio", 1003)


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("encoding=opus&sample_rate=48000", 400, "encoding"),
        ("encoding=linear16", 400, "sample_rate"),
        ("language=xx", 400, "language"),
        ("endpointing=soon", 400, "endpointing"),
        ("utterance_end_ms=1", 400, "utterance_end_ms"),
        ("redact=pci", 400, "redact"),
        ("callback=https://a.example/", 400, "callback"),
        ("model=a%00b", 400, "model"),
        ("keyterm=" + "x" * 2001, 400, "keyterm"),
        ("model=huge", 404, "model"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_invalid_options_are_refused_in_the_handshake(query: str, status: int, param: str) -> None:
    with scripted() as (client, _):
        with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect(f"/v1/listen?{query}"):
            pass
        response = caught.value
    assert (response.status_code, param in response.json()["err_msg"]) == (status, True)
    assert param in response.headers["dg-error"]
