"""Live transcription with unmodified clients (SDKs, curl, `whisper-server listen`) and real weights."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from operator import ne
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import httpx2
import numpy as np
import openai
import program
import pytest
from faster_whisper import decode_audio
from openai import AsyncOpenAI, OpenAI
from recorder import pcm16, wav_header
from servers import LiveServer, live_server
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

# The SDKs use the old interface of websockets.
pytestmark = pytest.mark.filterwarnings("ignore:connect:DeprecationWarning", "ignore:websockets:DeprecationWarning")

KEY = "a-secret-of-the-tests"
CHUNK = 0.1
TRANSCRIPTION = "conversation.item.input_audio_transcription"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server("--no-autotune", "--max-sessions", "3", WHISPER_SERVER_API_KEY=KEY) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.remaining_log()


@pytest.fixture(scope="module")
def speech(audio: Path) -> Callable[[int], bytes]:
    """Return a sentence of 3 s at any sample rate, with 1.2 s of silence after it, as PCM16."""

    def at(rate: int) -> bytes:
        samples = decode_audio(str(audio / "short.flac"), sampling_rate=rate)
        return pcm16(np.concatenate([samples, np.zeros(int(rate * 1.2), np.float32)]))

    return at


@pytest.fixture(autouse=True)
def every_session_ends(server: LiveServer) -> Iterator[None]:
    yield
    deadline = time.monotonic() + 5
    while sum(live_sessions(server)):
        assert time.monotonic() < deadline


def live_sessions(server: LiveServer) -> list[float]:
    metrics = httpx2.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {KEY}"}).text
    return [float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("whisper_live_sessions{")]


def chunks(data: bytes, rate: int) -> list[bytes]:
    size = int(rate * CHUNK) * 2
    return [data[start : start + size] for start in range(0, len(data), size)]


def send_in_real_time(audio_chunks: Sequence[bytes], send: Callable[[bytes], object]) -> None:
    """Send the chunks as a microphone would."""
    started = time.monotonic()
    for number, chunk in enumerate(audio_chunks, 1):
        time.sleep(max(0.0, started + number * CHUNK - time.monotonic()))
        send(chunk)


def words(text: str) -> list[str]:
    return [word for word in (word.strip(".,!?").lower() for word in text.split()) if word]


def is_correct(text: str, texts: dict[str, str]) -> bool:
    """Allow one wrong word: so small a model sometimes recognises "cattle" instead of "kettle"."""
    hypothesis, reference = words(text), words(texts["short"])
    return len(hypothesis) == len(reference) and sum(map(ne, hypothesis, reference)) <= 1


def url(server: LiveServer, path: str) -> str:
    return server.url.replace("http", "ws") + path


def connect_to(server: LiveServer, path: str = "/v1/stream", **options: Any) -> ClientConnection:
    connection: ClientConnection = connect(
        url(server, path), additional_headers={"authorization": f"Bearer {KEY}"}, **options
    )
    return connection


def test_the_openai_sdk(server: LiveServer, speech: Callable[[int], bytes], texts: dict[str, str]) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key=KEY)
    with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        assert connection.recv().type == "session.created"
        vad = {"type": "server_vad", "silence_duration_ms": 500}
        session: Any = {
            "type": "transcription",
            "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}, "turn_detection": vad}},
        }
        connection.session.update(session=session)
        assert connection.recv().type == "session.updated"
        send = Thread(
            target=send_in_real_time,
            args=(
                chunks(speech(24_000), 24_000),
                lambda chunk: connection.input_audio_buffer.append(audio=base64.b64encode(chunk).decode()),
            ),
        )
        send.start()
        events: list[Any] = []
        while not events or events[-1].type != f"{TRANSCRIPTION}.completed":
            events.append(connection.recv())
            assert events[-1].type != "error", events[-1]
        send.join()
    deltas = [event.delta for event in events if event.type == f"{TRANSCRIPTION}.delta"]
    assert is_correct(events[-1].transcript, texts)
    assert "".join(deltas) == events[-1].transcript
    assert events[-1].usage.type == "duration" and 2.5 < events[-1].usage.seconds < 4.5
    kinds = [event.type for event in events if event.type != f"{TRANSCRIPTION}.delta"]
    assert kinds == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{TRANSCRIPTION}.completed",
    ]


def test_the_asynchronous_openai_sdk_with_manual_commits(
    server: LiveServer, speech: Callable[[int], bytes], texts: dict[str, str]
) -> None:
    async def talk() -> tuple[list[str], str]:
        client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY)
        async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
            session: Any = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
            await connection.session.update(session=session)
            for chunk in chunks(speech(24_000), 24_000):
                await connection.input_audio_buffer.append(audio=base64.b64encode(chunk).decode())
            await connection.input_audio_buffer.commit()
            kinds: list[str] = []
            async for event in connection:
                kinds.append(event.type)
                if event.type == "conversation.item.input_audio_transcription.completed":
                    return kinds, event.transcript
        raise AssertionError(kinds)

    kinds, transcript = anyio.run(talk)
    assert is_correct(transcript, texts)
    assert "error" not in kinds and "input_audio_buffer.speech_started" not in kinds
    assert kinds.count("input_audio_buffer.committed") == 1


def test_the_beta_api_of_the_openai_sdk(
    server: LiveServer, speech: Callable[[int], bytes], texts: dict[str, str]
) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key=KEY, websocket_base_url=url(server, "/v1"))
    with client.beta.realtime.connect(
        model="gpt-4o-realtime-preview", extra_query={"intent": "transcription"}
    ) as connection:
        first: Any = connection.recv()
        assert first.type == "transcription_session.created"
        connection.transcription_session.update(session={"input_audio_format": "pcm16"})
        assert connection.recv().type == "transcription_session.updated"
        for chunk in chunks(speech(24_000), 24_000):
            connection.input_audio_buffer.append(audio=base64.b64encode(chunk).decode())
        kinds: list[str] = []
        while not kinds or kinds[-1] != f"{TRANSCRIPTION}.completed":
            event: Any = connection.recv()
            kinds.append(event.type)
    assert is_correct(event.transcript, texts)
    assert "conversation.item.created" in kinds and "error" not in kinds


def test_a_client_secret_of_the_openai_sdk(server: LiveServer) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key=KEY)
    session: Any = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
    secret = client.realtime.client_secrets.create(expires_after={"seconds": 60}, session=session)
    with OpenAI(base_url=f"{server.url}/v1", api_key=secret.value).realtime.connect() as connection:
        created: Any = connection.recv()
    assert created.session.audio.input.turn_detection is None
    subprotocols: Any = ["realtime", f"openai-insecure-api-key.{secret.value}"]
    with connect(url(server, "/v1/realtime"), subprotocols=subprotocols) as browser:
        assert browser.subprotocol == "realtime"
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=f"{server.url}/v1", api_key=secret.value).models.list()


def test_the_deepgram_sdk(server: LiveServer, speech: Callable[[int], bytes], texts: dict[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it still uses old names of websockets
        from deepgram import DeepgramClient
        from deepgram.environment import DeepgramClientEnvironment

        environment = DeepgramClientEnvironment(
            base=server.url, production=url(server, ""), agent=url(server, ""), agent_rest=server.url
        )
        client = DeepgramClient(api_key=KEY, environment=environment)
        options = {"interim_results": "true", "vad_events": "true", "utterance_end_ms": "1000", "punctuate": "true"}
        with client.listen.v1.connect(
            model="nova-3", encoding="linear16", sample_rate="16000", language="en-US", **options
        ) as connection:

            def send() -> None:
                connection.send_keep_alive()
                send_in_real_time(chunks(speech(16_000), 16_000), connection.send_media)
                connection.send_finalize()
                connection.send_close_stream()

            sending = Thread(target=send)
            sending.start()
            events: list[Any] = []
            while not events or events[-1].type != "Metadata":
                events.append(connection.recv())
            sending.join()
    results = [event for event in events if event.type == "Results"]
    final = [event.channel.alternatives[0] for event in results if event.is_final]
    assert is_correct(" ".join(one.transcript for one in final if one.transcript), texts)
    assert any(not event.is_final and event.channel.alternatives[0].transcript for event in results)
    assert sum(bool(event.speech_final and not event.from_finalize) for event in results) == 1
    assert [event.from_finalize for event in results].count(True) == 1
    starts = [word.start for one in final for word in one.words]
    assert starts == sorted(starts) and len(starts) == len(words(texts["short"]))
    kinds = [event.type for event in events]
    assert kinds[0] == "SpeechStarted" and "UtteranceEnd" in kinds and kinds[-1] == "Metadata"
    assert events[-1].duration == pytest.approx(len(speech(16_000)) / 32_000, abs=0.01)


def test_curl_in_real_time(server: LiveServer, speech: Callable[[int], bytes], texts: dict[str, str]) -> None:
    """Words arrive while the body is still being sent."""
    command = ["curl", "-sNT", "-", "-H", f"Authorization: Bearer {KEY}", f"{server.url}/v1/stream"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as curl:
        assert curl.stdin is not None and curl.stdout is not None
        stdin, stdout = curl.stdin, curl.stdout
        lines: list[tuple[bool, dict[str, Any]]] = []

        def read() -> None:
            lines.extend((stdin.closed, json.loads(line)) for line in stdout)

        reader = Thread(target=read)
        reader.start()
        stdin.write(wav_header(size=0xFFFFFFFF))

        def write(chunk: bytes) -> None:
            stdin.write(chunk)
            stdin.flush()

        send_in_real_time(chunks(speech(16_000), 16_000), write)
        deadline = time.monotonic() + 60
        while not any(line["type"] == "partial" for _, line in lines) and time.monotonic() < deadline:
            write(bytes(3200))
            time.sleep(0.1)
        stdin.close()
        reader.join(60)
        assert curl.wait(60) == 0
    assert is_correct(" ".join(line["text"] for _, line in lines if line["type"] == "final"), texts)
    early = [line["type"] for closed, line in lines if not closed]
    assert early[:2] == ["ready", "speech"] and "partial" in early
    assert lines[-1][1]["type"] == "end"


def run_listen(server: LiveServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "WHISPER_API_KEY": KEY}
    return program.run("listen", "--url", server.url, *arguments, cwd=Path(__file__).parents[1], environ=environ)


def test_listen_to_a_file(server: LiveServer, audio: Path, texts: dict[str, str]) -> None:
    done = run_listen(server, str(audio / "short.flac"), "--fast", "--language", "en")
    assert (done.returncode, done.stderr) == (0, "")
    assert is_correct(done.stdout, texts)


def test_listen_to_a_file_in_real_time(server: LiveServer, audio: Path) -> None:
    done = run_listen(server, str(audio / "short.flac"), "--json")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert messages[0]["type"] == "ready" and messages[-1]["type"] == "end"
    assert any(message["type"] == "partial" for message in messages)


def test_listen_to_a_pipe(server: LiveServer, speech: Callable[[int], bytes], texts: dict[str, str]) -> None:
    command = [sys.executable, "-m", "whisper_server", "listen", "-", "--url", server.url, "--api-key", KEY]
    done = subprocess.run(
        [*command, "--rate", "24000"], input=speech(24_000), capture_output=True, timeout=120, check=True
    )
    assert is_correct(done.stdout.decode(), texts)


def test_listen_on_a_terminal(server: LiveServer, audio: Path, texts: dict[str, str]) -> None:
    terminal, program_side = pty.openpty()
    command = [sys.executable, "-m", "whisper_server", "listen", str(audio / "short.flac"), "--url", server.url]
    written = b""
    with (
        os.fdopen(terminal, "rb", 0) as shown,
        subprocess.Popen([*command, "--api-key", KEY], stdout=program_side) as done,
    ):
        os.close(program_side)
        with suppress(OSError):  # the program has closed the terminal
            while part := shown.read(4096):
                written += part
        assert done.wait(60) == 0
    text = written.decode()
    dim = re.compile(r"\x1b\[2m.*?\x1b\[0m\x1b\[\d+D", re.DOTALL)
    assert dim.search(text)
    assert is_correct(re.sub(r"\x1b\[K|\r", "", dim.sub("", text)), texts)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "choose one source"),
        (["-", "--microphone"], 2, "choose one source"),
        (["nowhere.wav"], 2, "there is no file nowhere.wav"),
        (["--microphone"], 2, "pip install sounddevice"),
        (["README.md"], 1, "is not audio"),
        (["tests/audio/short.flac", "--url", "localhost:5000"], 2, "is not a URL"),
        (["tests/audio/short.flac", "--url", "http://localhost:1"], 1, "cannot reach ws://localhost:1/v1/stream"),
        (["tests/audio/short.flac", "--api-key", "wrong"], 1, "the API key is missing or unknown"),
        (["tests/audio/short.flac", "--model", "huge"], 1, "'huge' is not served here"),
        (["tests/audio/short.flac", "--language", "xx"], 1, "language"),
        (["--unknown"], 2, "unknown argument --unknown"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_of_listen_is_one_line_and_a_hint(
    server: LiveServer, arguments: list[str], status: int, message: str
) -> None:
    done = run_listen(server, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert done.stderr.startswith("whisper-server: ")
    assert [line[:4] for line in done.stderr.splitlines()[1:]] in ([], ["  → "])


def test_ctrl_c_ends_the_recording_but_not_the_transcript(
    server: LiveServer, audio: Path, texts: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "whisper_server", "listen", "--json", "--url", server.url, "--api-key", KEY]
    with subprocess.Popen([*command, str(audio / "sentences.flac")], stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        messages = []
        for line in listening.stdout:
            messages.append(json.loads(line))
            if messages[-1]["type"] == "partial" and not any(m["type"] == "partial" for m in messages[:-1]):
                listening.send_signal(signal.SIGINT)
        assert listening.wait(60) == 0
    assert messages[-1]["type"] == "end" and messages[-1]["audio"] < 20
    assert any(message["type"] == "final" and message["text"] for message in messages)


def test_a_killed_client_frees_its_session(server: LiveServer, audio: Path) -> None:
    """It is killed during a decode, with much more audio sent than decoded."""
    samples = pcm16(decode_audio(str(audio / "long.flac")))
    code = "import sys; from websockets.sync.client import connect\n"
    code += f"c = connect({url(server, '/v1/stream')!r}, additional_headers={{'authorization': 'Bearer {KEY}'}})\n"
    code += "data = sys.stdin.buffer.read()\nprint(c.recv(), flush=True)\n"
    code += "for at in range(0, len(data), 32000): c.send(data[at:at+32000])\nprint('sent', flush=True); c.recv(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(samples * 4)
        client.stdin.close()
        assert b"ready" in client.stdout.readline()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            assert sum(live_sessions(server)) == 1
        client.kill()
        died = time.monotonic()
        while sum(live_sessions(server)):
            assert time.monotonic() - died < 10


def test_a_killed_curl_frees_its_session(server: LiveServer, speech: Callable[[int], bytes]) -> None:
    """`-T .` is like `-T -`, but curl also reads the response while its input pauses."""
    command = ["curl", "-sNT", ".", "-H", f"Authorization: Bearer {KEY}", f"{server.url}/v1/stream"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as curl:
        assert curl.stdin is not None and curl.stdout is not None
        curl.stdin.write(speech(16_000))
        curl.stdin.flush()
        assert json.loads(curl.stdout.readline())["type"] == "ready"
        assert sum(live_sessions(server)) == 1
        curl.kill()


def test_a_full_server_rejects_the_handshake(server: LiveServer) -> None:
    with connect_to(server), connect_to(server, "/v1/realtime"), connect_to(server, "/v1/listen"):
        with pytest.raises(InvalidStatus) as caught, connect_to(server):
            pass
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["retry-after"] == "5"
        body = caught.value.response.body
        assert body is not None and json.loads(body)["error"]["code"] == "overloaded"
        assert " WARNING " in server.wait_for("the server has its maximum of 3 live sessions")
        metrics = httpx2.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {KEY}"}).text
        assert 'whisper_rejected_total{reason="overloaded"} 1.0' in metrics
    assert not any("without completing handshake" in line for line in server.log)


def test_a_handshake_without_a_key_gets_a_401(server: LiveServer) -> None:
    for path in ("/v1/stream", "/v1/realtime", "/v1/listen"):
        with pytest.raises(InvalidStatus) as caught, connect(url(server, path)):
            pass
        assert caught.value.response.status_code == 401


def test_a_page_of_another_origin_may_connect_with_a_key(server: LiveServer) -> None:
    for path in ("/v1/stream", "/v1/realtime", "/v1/listen?encoding=linear16&sample_rate=16000"):
        with connect_to(server, path, origin="https://elsewhere.example"):
            pass


@pytest.mark.full
def test_frames_have_a_size_limit(server: LiveServer) -> None:
    with connect_to(server) as client, pytest.raises(ConnectionClosed) as caught:
        client.recv()
        client.send(bytes(25 * 2**20))
        client.recv()
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 1009


def test_a_shutdown_sends_the_last_results_of_sessions(speech: Callable[[int], bytes], texts: dict[str, str]) -> None:
    with live_server("--no-autotune") as server, connect(url(server, "/v1/stream?endpoint_ms=none")) as client:
        assert json.loads(client.recv())["type"] == "ready"
        for chunk in chunks(speech(16_000), 16_000):
            client.send(chunk)
        transcript = ""
        while "ready" not in transcript:  # audio that is not decoded before the signal would be lost
            message = json.loads(client.recv(60))
            transcript = message.get("confirmed", "") + message.get("pending", "")
        server.process.send_signal(signal.SIGTERM)
        messages = []
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                messages.append(json.loads(client.recv(30)))
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, "try again" in caught.value.rcvd.reason) == (1012, True)
        assert [message["type"] for message in messages[-2:]] == ["final", "error"]
        assert messages[-1]["code"] == "server_stopping"
        assert is_correct(messages[-2]["text"], texts)
        assert server.process.wait(30) == 0
