"""OpenAI's Realtime protocol for transcription: turns are conversation items, their words come as deltas."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from whisper_server.api.streaming import openai_messages as messages
from whisper_server.api.streaming.common import parse_json_frame, split_frame
from whisper_server.api.streaming.openai_config import LOGPROBS, RealtimeConfig
from whisper_server.api.streaming.openai_turns import MIN_COMMIT_SECONDS, Turn, TurnLedger
from whisper_server.api.streaming.session_runner import Action, Audio, Command, Message, SendMessage, Switch
from whisper_server.core.errors import BadMessage, BadOption, WhisperServerError
from whisper_server.inference.transcription.segments import Word
from whisper_server.live.events import Ended, Event, Final, Lag, SpeechStarted, SpeechStopped, Update
from whisper_server.live.session import Session, SessionOptions


class RealtimeAdapter:
    """`open` makes a session with other options; `created_type` is the type of the first message."""

    def __init__(
        self,
        config: RealtimeConfig,
        open: Callable[[SessionOptions], Session],
        *,
        model: str,
        expires_at: int,
        beta: bool = False,
        created_type: str = "session.created",
    ) -> None:
        self._config = config
        self._open = open
        self._model = model
        self._beta = beta
        self._created_type = created_type
        self._identity = {
            "id": messages.new_id("sess"),
            "object": "realtime.transcription_session",
            "expires_at": expires_at,
        }
        self._decoder = config.new_decoder()
        self._turns = TurnLedger()

    def on_open(self) -> Iterable[Message]:
        return [self._session_event(self._created_type)]

    def _session_event(self, type: str) -> Message:
        session = self._config.to_json(self._identity, model=self._model, beta=self._beta)
        return messages.server_event(type, session=session)

    # Client events

    def on_frame(self, frame: bytes | str) -> Iterator[Action]:
        """A mistake of the client is answered by an error event; the session continues."""
        event_id = None
        try:
            if isinstance(frame, bytes):
                raise BadMessage("send audio as base64 in input_audio_buffer.append")
            message = parse_json_frame(frame)
            event_id = message.get("event_id")
            yield from self._client_event(message)
        except WhisperServerError as exc:
            if exc.status >= 500:
                raise
            yield SendMessage(messages.error_event(exc, event_id))

    def _client_event(self, message: Mapping[str, Any]) -> Iterator[Action]:
        match message["type"]:
            case "input_audio_buffer.append":
                yield from self._append(message.get("audio"))
            case "input_audio_buffer.commit":
                yield from self._commit()
            case "input_audio_buffer.clear":
                self._turns.clear()
                yield Command.CLEAR
                yield SendMessage(messages.server_event("input_audio_buffer.cleared"))
            case "session.update":
                yield from self._update_session(message.get("session"), beta=False)
            case "transcription_session.update":
                yield from self._update_session(message.get("session"), beta=True)
            case type:
                raise BadOption("type", type, "an event of a transcription session")

    def _append(self, base64: Any) -> Iterator[Action]:
        try:
            audio = b64decode(base64, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise BadOption("audio", base64, "base64") from None
        for chunk in split_frame(audio):
            self._turns.received += len(chunk) / self._config.bytes_per_second
            yield Audio(self._decoder.decode(chunk))

    def _commit(self) -> Iterator[Action]:
        if round(self._turns.uncommitted, 6) < MIN_COMMIT_SECONDS:
            raise _EmptyBuffer(self._turns.uncommitted)
        if not self._config.server_turns:
            yield from map(SendMessage, self._committed(self._turns.commit_by_client()))
        self._turns.commit_audio()
        yield Command.FLUSH

    def _update_session(self, session: Any, *, beta: bool) -> Iterator[Action]:
        config = self._config.updated(session, beta=beta)
        if config.options != self._config.options:
            yield Switch(self._open(config.options))
            self._turns.discard_open_turn()
        if (config.format, config.rate) != (self._config.format, self._config.rate):
            self._decoder = config.new_decoder()
        self._config, self._beta = config, beta
        yield SendMessage(self._session_event("transcription_session.updated" if beta else "session.updated"))

    def on_end(self) -> Iterator[Action]:
        yield Command.END

    # Events of the session

    def on_event(self, event: Event) -> Iterator[Message]:
        turns = self._turns
        match event:
            case SpeechStarted(time):
                yield messages.speech_started(turns.begin().id, turns.session_start + time)
            case SpeechStopped(time):
                turn = turns.current()
                yield messages.speech_stopped(turn.id, turns.session_start + time)
                yield from self._committed(turn)
            case Update(confirmed=words):
                yield from self._delta(turns.current(), words)
            case Final():
                yield from self._final(event)
            case Ended(audio):
                turns.session_start += audio
            case Lag():
                pass

    def on_error(self, exc: WhisperServerError) -> Iterable[Message]:
        return [messages.error_event(exc)]

    def _final(self, event: Final) -> Iterator[Message]:
        turn = self._turns.finish(event, by_server=self._config.server_turns)
        if turn is None:
            return
        if not turn.committed:
            yield from self._committed(turn)
        yield from self._delta(turn, event.words[turn.words_sent :])
        yield messages.completed(turn.id, event, turn.seconds, logprobs=self._logprobs)

    def _committed(self, turn: Turn) -> Iterator[Message]:
        return messages.committed(turn.id, self._turns.commit(turn), beta=self._beta)

    def _delta(self, turn: Turn, words: Sequence[Word]) -> Iterator[Message]:
        """Confirmed words only: clients join the deltas and cannot take one back."""
        if words:
            first = not turn.words_sent
            turn.words_sent += len(words)
            yield messages.delta(turn.id, words, first=first, logprobs=self._logprobs)

    @property
    def _logprobs(self) -> bool:
        return LOGPROBS in self._config.include


class _EmptyBuffer(BadMessage):
    code = "input_audio_buffer_commit_empty"

    def __init__(self, seconds: float) -> None:
        minimum = round(MIN_COMMIT_SECONDS * 1000)
        super().__init__(f"the buffer has {seconds * 1000:.0f} ms of audio; expected at least {minimum} ms")
