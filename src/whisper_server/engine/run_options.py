"""How the server runs a transcription, apart from what `WhisperModel.transcribe()` is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

EncoderWindow: TypeAlias = Literal["full", "adaptive"]
Mode: TypeAlias = Literal["sequential", "batched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """`model` is the name of one, or empty for the served model; `languages` are the codes to detect among.

    `scores` adds the scores of text tokens to the segments. `timeout` is in seconds, 0 is none. The model stays loaded
    for `keep_alive` seconds afterwards; None means as the server is set, a negative number means for ever.
    """

    model: str = ""
    encoder_window: EncoderWindow = "full"
    mode: Mode = "sequential"
    languages: Sequence[str] = ()
    scores: bool = False
    timeout: float = 0.0
    keep_alive: float | None = None
