"""The turns of an OpenAI Realtime connection. All times are seconds since the connection's first sample."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from whisper_server.api.streaming.openai_messages import new_id
from whisper_server.live.events import Final

# OpenAI's own minimum for a commit.
MIN_COMMIT_SECONDS = 0.1


@dataclass(slots=True)
class Turn:
    """A conversation item. `words_sent` counts the words of its deltas."""

    id: str = field(default_factory=lambda: new_id("item"))
    words_sent: int = 0
    committed: bool = False
    seconds: float = 0.0


class TurnLedger:
    """Which audio is committed, and which turn the next transcript belongs to."""

    def __init__(self) -> None:
        self.received = 0.0
        self._committed = 0.0
        # Where the current session began; a change of options starts a new one.
        self.session_start = 0.0
        self._open: Turn | None = None
        # Committed by the client and not transcribed yet, the oldest first.
        self._awaiting_transcript: deque[Turn] = deque()
        self._last_committed_id: str | None = None

    @property
    def uncommitted(self) -> float:
        return self.received - self._committed

    def begin(self) -> Turn:
        """Open a turn whose speech has started."""
        self._open = Turn()
        return self._open

    def current(self) -> Turn:
        """Return the turn of the next words: the oldest one without a transcript, or a new one."""
        if self._awaiting_transcript:
            return self._awaiting_transcript[0]
        return self._open or self.begin()

    def commit_by_client(self) -> Turn:
        """Return the turn that the uncommitted audio now is."""
        turn, self._open = self._open or Turn(), None
        turn.seconds = self.uncommitted
        self._awaiting_transcript.append(turn)
        return turn

    def commit_audio(self) -> None:
        self._committed = self.received

    def commit(self, turn: Turn) -> str | None:
        """Mark the turn as committed; return the id of the one committed before it."""
        turn.committed = True
        previous, self._last_committed_id = self._last_committed_id, turn.id
        return previous

    def clear(self) -> None:
        self.commit_audio()
        if self._open is not None and not self._open.committed:
            self._open = None

    def discard_open_turn(self) -> None:
        self._open = None

    def finish(self, event: Final, *, by_server: bool) -> Turn | None:
        """Return the turn that the transcript completes; None if its audio was never committed."""
        turn = self.current()
        if self._awaiting_transcript:
            self._awaiting_transcript.popleft()
        elif by_server:
            turn.seconds = event.end - event.start
            self._open = None
        else:
            return None
        self._committed = max(self._committed, min(self.received, self.session_start + event.end))
        return turn
