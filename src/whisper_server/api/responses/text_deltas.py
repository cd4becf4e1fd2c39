"""The text of a stream, segment by segment."""

from __future__ import annotations


class TextDeltas:
    """`text` is what `next()` has returned so far, concatenated: the stripped text of the segments."""

    def __init__(self) -> None:
        self.text = ""
        self._pending_space = ""  # belongs to the text only if more text follows

    def next(self, text: str) -> str:
        """Return what a segment's text adds; empty if that is only space."""
        delta = self._pending_space + text
        if not self.text:
            delta = delta.lstrip()
        stripped = delta.rstrip()
        self._pending_space = delta[len(stripped) :]
        self.text += stripped
        return stripped
