"""OpenAI's Realtime protocol for transcription: the client's turns as items, their words as deltas that only grow."""

from __future__ import annotations

import binascii
import math
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from whisper_server.api.errors import openai_error
from whisper_server.api.streaming.native import parse_message, pieces, seconds, text
from whisper_server.api.streaming.openai_config import LOGPROBS, Setup
from whisper_server.api.streaming.session_runner import Action, Audio, Clear, End, Flush, Message, Say, Switch
from whisper_server.core.errors import BadMessage, BadOption, WhisperServerError
from whisper_server.inference.transcription.segments import Word
from whisper_server.live.events import Ended, Event, Final, Lag, SpeechStarted, SpeechStopped, Update
from whisper_server.live.session import Session, SessionOptions

# OpenAI's own least.
_SHORTEST_TURN = 0.1
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


@dataclass(slots=True)
class Item:
    """A turn. `words` are those that were sent."""

    id: str = field(default_factory=lambda: _id("item"))
    words: int = 0
    committed: bool = False
    seconds: float = 0.0


class RealtimeAdapter:
    """`open` makes a session of other options; `created` says whether the beta's client asked for transcription."""

    def __init__(
        self,
        setup: Setup,
        open: Callable[[SessionOptions], Session],
        *,
        model: str,
        expires_at: int,
        beta: bool = False,
        created: str = "session.created",
    ) -> None:
        self._setup = setup
        self._open = open
        self._model = model
        self._beta = beta
        self._created = created
        identity = {"id": _id("sess"), "object": "realtime.transcription_session", "expires_at": expires_at}
        self._identity = identity
        self._incoming = setup.incoming()
        self._heard = 0.0
        self._committed = 0.0
        self._offset = 0.0
        self._current: Item | None = None
        self._waiting: deque[Item] = deque()
        self._previous: str | None = None

    def on_open(self) -> Iterable[Message]:
        return [_event(self._created, session=self._session())]

    def _session(self) -> Message:
        render = self._setup.as_beta if self._beta else self._setup.as_ga
        return render(self._identity, model=self._model)

    # What the client says

    def on_frame(self, frame: bytes | str) -> Iterator[Action]:
        """A mistake of the client's is answered by an error and ends nothing."""
        event_id = None
        try:
            if isinstance(frame, bytes):
                raise BadMessage("audio is sent in input_audio_buffer.append, as base64")
            message = parse_message(frame)
            event_id = message.get("event_id")
            yield from self._obey(message)
        except (BadMessage, BadOption) as exc:
            yield Say(_error(exc, event_id))
        except WhisperServerError as exc:
            if exc.status >= 500:
                raise
            yield Say(_error(exc, event_id))

    def _obey(self, message: Any) -> Iterator[Action]:
        match message["type"]:
            case "input_audio_buffer.append":
                yield from self._append(message)
            case "input_audio_buffer.commit":
                yield from self._commit()
            case "input_audio_buffer.clear":
                yield from self._clear()
            case "session.update":
                yield from self._change(self._setup.changed(message.get("session")), "session.updated", beta=False)
            case "transcription_session.update":
                changed = self._setup.changed_by_beta(message.get("session"))
                yield from self._change(changed, "transcription_session.updated", beta=True)
            case kind:
                raise BadOption("type", kind, "an event of a transcription session")

    def _append(self, message: Any) -> Iterator[Action]:
        try:
            audio = b64decode(message.get("audio"), validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise BadOption("audio", message.get("audio"), "base64") from None
        for piece in pieces(audio):
            self._heard += len(piece) / self._setup.bytes_per_second
            yield Audio(self._incoming.decode(piece))

    def _commit(self) -> Iterator[Action]:
        if round(self._heard - self._committed, 6) < _SHORTEST_TURN:
            raise _EmptyBuffer(self._heard - self._committed)
        if not self._by_server:
            item, self._current = self._current or Item(), None
            item.seconds = self._heard - self._committed
            self._waiting.append(item)
            yield from map(Say, self._commit_item(item))
        self._committed = self._heard
        yield Flush()

    def _clear(self) -> Iterator[Action]:
        self._committed = self._heard
        if self._current is not None and not self._current.committed:
            self._current = None
        yield Clear()
        yield Say(_event("input_audio_buffer.cleared"))

    def _change(self, setup: Setup, answer: str, *, beta: bool) -> Iterator[Action]:
        if setup.options != self._setup.options:
            yield Switch(self._open(setup.options))
            self._current = None
        if (setup.format, setup.rate) != (self._setup.format, self._setup.rate):
            self._incoming = setup.incoming()
        self._setup, self._beta = setup, beta
        yield Say(_event(answer, session=self._session()))

    def on_end(self) -> Iterator[Action]:
        yield End()

    # What the session tells

    @property
    def _by_server(self) -> bool:
        return self._setup.turn_detection is not None

    def on_event(self, event: Event) -> Iterator[Message]:
        match event:
            case SpeechStarted(time):
                self._current = Item()
                yield self._speech("started", "audio_start_ms", time, self._current)
            case SpeechStopped(time):
                item = self._item()
                yield self._speech("stopped", "audio_end_ms", time, item)
                yield from self._commit_item(item)
            case Update(confirmed=words):
                yield from self._delta(self._item(), words)
            case Final():
                yield from self._final(event)
            case Ended(audio):
                self._offset += audio
            case Lag():
                pass

    def _item(self) -> Item:
        """The turn that is told of: one after the other, in their order."""
        if self._waiting:
            return self._waiting[0]
        if self._current is None:
            self._current = Item()
        return self._current

    def _final(self, event: Final) -> Iterator[Message]:
        item = self._item()
        if self._waiting:
            self._waiting.popleft()
        elif self._by_server:
            item.seconds = event.end - event.start
            self._current = None
        else:
            return  # the rest of what was never committed
        if not item.committed:
            yield from self._commit_item(item)
        self._committed = max(self._committed, min(self._heard, self._offset + event.end))
        yield from self._delta(item, event.words[item.words :])
        yield self._completed(item, event)

    def _speech(self, what: str, when: str, time: float, item: Item) -> Message:
        milliseconds = round((self._offset + time) * 1000)
        return _event(f"input_audio_buffer.speech_{what}", **{when: milliseconds}, item_id=item.id)

    def _commit_item(self, item: Item) -> Iterator[Message]:
        item.committed = True
        previous, self._previous = self._previous, item.id
        content = {"type": "input_audio", "transcript": None}
        message = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [content],
        }
        yield _event("input_audio_buffer.committed", item_id=item.id, previous_item_id=previous)
        for kind in ("created",) if self._beta else ("added", "done"):
            yield _event(f"conversation.item.{kind}", item=message, previous_item_id=previous)

    def _delta(self, item: Item, words: Sequence[Word]) -> Iterator[Message]:
        """Nothing that may still change: clients put the deltas together."""
        if not words:
            return
        delta = "".join(word.text for word in words)
        sent = {"item_id": item.id, "content_index": 0, "delta": delta if item.words else delta.lstrip()}
        item.words += len(words)
        yield _event(f"{_TRANSCRIPTION}.delta", **sent, **self._logprobs(words))

    def _completed(self, item: Item, event: Final) -> Message:
        return _event(
            f"{_TRANSCRIPTION}.completed",
            item_id=item.id,
            content_index=0,
            transcript=text(event.words),
            usage={"type": "duration", "seconds": seconds(item.seconds)},
            languages=[{"code": event.language}] if event.language else [],
            **self._logprobs(event.words),
        )

    def _logprobs(self, words: Sequence[Word]) -> Message:
        """Of whole words, as what is certain is known of those."""
        if LOGPROBS not in self._setup.include:
            return {}
        return {"logprobs": [_logprob(word) for word in words]}

    def on_error(self, exc: WhisperServerError) -> Iterable[Message]:
        return [_error(exc, None)]


class _EmptyBuffer(BadMessage):
    code = "input_audio_buffer_commit_empty"

    def __init__(self, seconds: float) -> None:
        least = round(_SHORTEST_TURN * 1000)
        super().__init__(f"the buffer has {seconds * 1000:.0f} ms of audio; expected at least {least} ms")


def _event(kind: str, **fields: Any) -> Message:
    return {"type": kind, "event_id": _id("event"), **fields}


def _error(exc: WhisperServerError, event_id: Any) -> Message:
    return _event("error", error={**openai_error(exc)["error"], "event_id": event_id})


def _logprob(word: Word) -> Message:
    return {
        "token": word.text,
        "logprob": round(math.log(max(word.probability, 1e-9)), 4),
        "bytes": list(word.text.encode()),
    }


def _id(kind: str) -> str:
    return f"{kind}_{uuid4().hex[:24]}"
