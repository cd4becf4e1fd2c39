"""Bodies with a Content-Encoding, decompressed in small pieces, so that a few kilobytes cannot fill the memory."""

from __future__ import annotations

import zlib

from anyio.lowlevel import checkpoint
from starlette.types import Message, Receive

from whisper_server.core.errors import BadRequest, UnsupportedEncoding

_PIECE_BYTES = 256 * 1024
# zlib detects the header of gzip and that of zlib.
_ANY_HEADER = 32 + zlib.MAX_WBITS
_COMPRESSED = ("gzip", "x-gzip", "deflate")


def decoded(receive: Receive, content_encoding: str) -> Receive:
    """Return a `receive` for the decoded body; raises UnsupportedEncoding, and BadRequest while it is called."""
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        return receive
    if encoding not in _COMPRESSED:
        raise UnsupportedEncoding(content_encoding)
    return _Decompressed(receive).receive


class _Decompressed:
    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._decompressor = zlib.decompressobj(_ANY_HEADER)
        self._compressed = b""
        self._full_piece = False
        self._complete = False

    async def receive(self) -> Message:
        """Return a message with at most one piece of the body; raises BadRequest if it is damaged."""
        await checkpoint()  # the next pieces may be there already, and other clients wait
        while not self._compressed and not self._full_piece:
            if self._complete:
                if not self._decompressor.eof:
                    raise BadRequest("the compressed body ends too early")
                return {"type": "http.request", "body": b"", "more_body": False}
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._compressed = message.get("body", b"")
            self._complete = not message.get("more_body", False)
        return {"type": "http.request", "body": self._piece(), "more_body": True}

    def _piece(self) -> bytes:
        if self._decompressor.eof:  # several compressed bodies may follow each other
            self._decompressor = zlib.decompressobj(_ANY_HEADER)
        try:
            piece = self._decompressor.decompress(self._compressed, _PIECE_BYTES)
        except zlib.error as exc:
            raise BadRequest("the body is not compressed as its Content-Encoding says") from exc
        self._compressed = self._decompressor.unconsumed_tail or self._decompressor.unused_data
        self._full_piece = len(piece) == _PIECE_BYTES
        return piece
