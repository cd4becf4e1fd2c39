"""One file through one model, by faster-whisper's own `transcribe()`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.transcribe import Segment
from numpy.typing import NDArray

from whisper_server.core.errors import BadOption
from whisper_server.inference.audio.decoder import SAMPLE_RATE
from whisper_server.inference.transcription.progress import OnProgress, follow, unwatched
from whisper_server.inference.transcription.token_scores import count_tokens, scored

# openai-whisper's `transcribe()` is greedy and samples once where it falls back; faster-whisper's defaults are 5 and 5.
_DEFAULTS: dict[str, Any] = {"beam_size": 1, "best_of": 1}

_TIMESTAMP_TOKENS = 1501
_CONTEXT = 448
_PREVIOUS_TEXT = _CONTEXT // 2 - 1
_TASK_TOKENS = 6  # <|startofprev|>, <|startoftranscript|>, language, task, <|notimestamps|> or a first timestamp
_LEAST_ROOM = 100


OnSegment: TypeAlias = Callable[[Segment], None]


def ignore(segment: Segment) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Transcript:
    """`duration` is that of the audio, in seconds; `prompt_tokens` are those of the prompt and the hotwords."""

    segments: list[Segment]
    language: str
    duration: float
    prompt_tokens: int = 0

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)


def transcribe(
    whisper: WhisperModel,
    audio: NDArray[np.float32],
    options: Mapping[str, Any],
    *,
    scores: bool = False,
    on_segment: OnSegment = ignore,
    on_progress: OnProgress = unwatched,
) -> Transcript:
    """Transcribe 16 kHz samples with keyword arguments of `WhisperModel.transcribe()` over openai-whisper's defaults.

    With `scores` the segments are ScoredSegments; `on_segment` gets each as soon as it is decoded. Raises Cancelled, or
    BadOption for an option that this model cannot honour.
    """
    follow(whisper, on_progress)
    found, info = whisper.transcribe(audio, **checked_keywords(whisper, options))
    segments = told(scored(whisper, found) if scores else found, on_segment)
    return Transcript(list(segments), info.language, len(audio) / SAMPLE_RATE, prompt_tokens(whisper, options))


def told(segments: Iterable[Segment], on_segment: OnSegment) -> Iterator[Segment]:
    for segment in segments:
        on_segment(segment)
        yield segment


def prompt_tokens(whisper: WhisperModel, options: Mapping[str, Any]) -> int:
    return sum(count_tokens(whisper, options.get(name) or "") for name in ("initial_prompt", "hotwords"))


def check_candidates(whisper: WhisperModel, languages: Sequence[str]) -> None:
    """Raise BadOption unless this model can find one of the languages; without any it may find all."""
    if languages and not set(languages) & set(_languages(whisper)):
        raise BadOption("languages", ",".join(languages), "a language of this model among them")


def checked_keywords(whisper: WhisperModel, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options over openai-whisper's defaults; raises BadOption for one that this model cannot honour."""
    keywords = {**_DEFAULTS, **options}
    check_language(whisper, keywords.get("language"))
    _check_suppressed_tokens(whisper, keywords)
    _check_prompt_length(whisper, keywords)
    return keywords


def check_language(whisper: WhisperModel, language: str | None) -> None:
    """Raise BadOption for a language that is not the model's."""
    if language is not None and language not in _languages(whisper):
        allowed = "en, as this model is English-only" if not whisper.model.is_multilingual else "one of its languages"
        raise BadOption("language", language, allowed)


def _languages(whisper: WhisperModel) -> list[str]:
    """faster-whisper lists Cantonese for every multilingual model, but only large-v3 and its kin have its token."""
    if not whisper.model.is_multilingual:
        return ["en"]
    return [code for code in whisper.supported_languages if whisper.hf_tokenizer.token_to_id(f"<|{code}|>") is not None]


def _check_suppressed_tokens(whisper: WhisperModel, keywords: dict[str, Any]) -> None:
    """CTranslate2 writes to `logits[token]` unchecked: a token outside the vocabulary corrupts memory."""
    if "suppress_tokens" not in keywords:
        return
    size = whisper.hf_tokenizer.token_to_id("<|notimestamps|>") + 1 + _TIMESTAMP_TOKENS
    for token in keywords["suppress_tokens"]:
        if not -1 <= token < size:
            raise BadOption("suppress_tokens", token, f"tokens from -1 to {size - 1}")
    if not keywords["suppress_tokens"]:
        # faster-whisper adds the special tokens that are always suppressed only to a list that is not empty.
        keywords["suppress_tokens"] = [whisper.hf_tokenizer.token_to_id("<|startoftranscript|>")]


def _check_prompt_length(whisper: WhisperModel, keywords: dict[str, Any]) -> None:
    """A prompt that fills the context leaves no room for text, and the model then silently answers nothing."""

    def tokens(name: str) -> int:
        text = keywords.get(name)
        return min(_PREVIOUS_TEXT, len(whisper.hf_tokenizer.encode(" " + text).ids)) if text else 0

    conditioned = keywords.get("condition_on_previous_text", True)
    previous = _PREVIOUS_TEXT if conditioned else tokens("initial_prompt")
    room = _CONTEXT - _TASK_TOKENS - previous - tokens("hotwords") - tokens("prefix")
    wanted = keywords.get("max_new_tokens")
    if wanted is not None and wanted > room:
        raise BadOption("max_new_tokens", wanted, f"at most {room}, which is what the prompt leaves")
    if room < _LEAST_ROOM:
        field = "hotwords" if tokens("hotwords") >= tokens("prefix") else "prefix"
        raise BadOption(field, keywords[field], f"a shorter text: the prompt leaves {room} tokens to answer")
