"""Opens live sessions."""

from __future__ import annotations

from whisper_server.engine.transcriber import Engine
from whisper_server.live.session import Session, SessionOptions


class Listener:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def open(self, options: SessionOptions) -> Session:
        """Return a session, to be entered; raises ModelNotFound, or BadOption for another language."""
        self._engine.check_hearing(options.model, options.language)
        return Session(self._engine, options)
