"""HTTP connections on which a request has to arrive in time."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """uvicorn waits for ever for a request's headers, and for the rest of a body that nobody wants any more.

    Here a connection on which the server does nothing may keep it waiting for `timeout` seconds.
    """

    def __init__(self, *args: Any, timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timeout = timeout
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._keep_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._keep_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop_deadline()
        super().connection_lost(exc)

    @property
    def _idle(self) -> bool:
        upgraded = self.transport.get_protocol() is not self
        return not upgraded and (self.cycle is None or self.cycle.response_complete)

    def _keep_deadline(self) -> None:
        """Set it once for what is to come, not anew with each byte."""
        if not self._idle:
            self._drop_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._timeout, self._close)

    def _drop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._deadline = None
        if self._idle:
            self.transport.close()
