"""Events of one client, read within limits: a line of JSON, then more JSON and a payload if the line announces them.

`wyoming.event.async_read_event` would keep any length in memory, and takes what it cannot parse for the end.
"""

from __future__ import annotations

from asyncio import IncompleteReadError, LimitOverrunError, StreamReader, StreamWriter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from anyio import Lock, fail_after, move_on_after
from anyio.lowlevel import checkpoint
from starlette.requests import ClientDisconnect
from wyoming.event import Eventable, async_write_event

from whisper_server.api.requests.text import parse_json
from whisper_server.core.errors import BadMessage, UploadTimedOut

# In bytes. A list of names to expect makes the data of an event long.
MAX_LINE_BYTES = 64 * 1024
_MAX_DATA_BYTES = 256 * 1024
# The audio of a chunk may have any length, as it is decoded in parts.
_AUDIO_CHUNK = "audio-chunk"
_MAX_OTHER_PAYLOAD_BYTES = 2**20
_PART_BYTES = 64 * 1024
# Seconds in which a client that is still sending can read why its connection ends.
_LINGER_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """`payload_length` is in bytes."""

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    payload_length: int = 0


class EventStream:
    """Timeouts are in seconds. What reads and sends raises ClientDisconnect.

    After a BadMessage, nothing that the client sends can be understood.
    """

    def __init__(
        self, reader: StreamReader, writer: StreamWriter, *, receive_timeout: float, send_timeout: float = 60.0
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._receive_timeout = receive_timeout
        self._send_timeout = send_timeout
        self._sending = Lock()
        self._first_byte = b""
        self._unread_payload = 0

    async def wait(self) -> None:
        """Wait, without a limit, until the next event begins."""
        await checkpoint()  # others get their turn between the events of a client that sends masses of them
        if not self._first_byte:
            self._first_byte = await self._read(1)

    async def read(self) -> ClientEvent:
        """Return the next event, whose payload comes from `read_payload()`; raises BadMessage or UploadTimedOut."""
        await self.wait()
        try:
            with fail_after(self._receive_timeout):
                line = self._first_byte + await self._reader.readuntil(b"\n")
                self._first_byte = b""
                event, data_length = _parse_line(line)
                more = await self._reader.readexactly(data_length)
        except LimitOverrunError as exc:
            raise BadMessage(f"the line of an event is longer than {MAX_LINE_BYTES} bytes") from exc
        except TimeoutError as exc:
            raise UploadTimedOut from exc
        except (IncompleteReadError, OSError) as exc:
            raise ClientDisconnect from exc
        self._unread_payload = event.payload_length
        return ClientEvent(event.type, {**event.data, **_parse_object(more)}, event.payload_length) if more else event

    async def read_payload(self) -> bytes:
        """Return the next part of the event's payload, empty at its end; raises UploadTimedOut."""
        if not self._unread_payload:
            return b""
        try:
            with fail_after(self._receive_timeout):
                part = await self._read(min(self._unread_payload, _PART_BYTES))
        except TimeoutError as exc:
            raise UploadTimedOut from exc
        self._unread_payload -= len(part)
        return part

    async def send(self, *messages: Eventable) -> None:
        """A client that reads nothing for too long counts as disconnected."""
        try:
            async with self._sending:
                with fail_after(self._send_timeout):
                    for message in messages:
                        await async_write_event(message.event(), self._writer)
        except (TimeoutError, OSError) as exc:
            raise ClientDisconnect from exc

    async def linger(self) -> None:
        """Let the client read what was sent: closing while it is still sending would discard that."""
        with move_on_after(_LINGER_TIMEOUT), suppress(ClientDisconnect, OSError):
            self._writer.write_eof()
            while True:
                await self._read(_PART_BYTES)

    async def close(self) -> None:
        self._writer.close()
        with move_on_after(_LINGER_TIMEOUT, shield=True), suppress(OSError):
            await self._writer.wait_closed()
            return
        self._writer.transport.abort()

    async def _read(self, size: int) -> bytes:
        """Return at least one byte."""
        try:
            data = await self._reader.read(size)
        except TimeoutError:
            raise
        except OSError as exc:
            raise ClientDisconnect from exc
        if not data:
            raise ClientDisconnect
        return data


def _parse_line(line: bytes) -> tuple[ClientEvent, int]:
    """Return the event without its additional data, and the length of these in bytes; raises BadMessage."""
    header = _parse_object(line)
    type, data = header.get("type"), header.get("data") or {}
    if not isinstance(type, str) or not isinstance(data, dict):
        raise BadMessage("an event is a JSON object with a type and, if it has data, an object of data")
    data_length = _length(header, "data_length", _MAX_DATA_BYTES)
    payload_length = _length(header, "payload_length", None if type == _AUDIO_CHUNK else _MAX_OTHER_PAYLOAD_BYTES)
    return ClientEvent(type, data, payload_length), data_length


def _length(header: Mapping[str, Any], name: str, limit: int | None) -> int:
    length = header.get(name) or 0
    if type(length) is not int or length < 0:
        raise BadMessage(f"{name} is no number of bytes")
    if limit is not None and length > limit:
        raise BadMessage(f"a {name} of more than {limit} is not allowed")
    return length


def _parse_object(text: bytes) -> dict[str, Any]:
    try:
        content = parse_json(text)
    except (ValueError, RecursionError) as exc:
        raise BadMessage("this is no event of the Wyoming protocol: it is not JSON") from exc
    if not isinstance(content, dict):
        raise BadMessage("this is no event of the Wyoming protocol: it is no JSON object")
    return content
