"""`mode=sequential`: a file through faster-whisper's own `transcribe()`, window after window.

`transcribe()` would have all features of the file in memory, and its voice activity detection several copies of the
samples. So it gets features that are computed when it slices them, which also tells its progress.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.transcribe import restore_speech_timestamps
from faster_whisper.vad import VadOptions

from whisper_server.core.errors import BadOption
from whisper_server.inference.audio.features import FeatureBlocks, LazyFeatures
from whisper_server.inference.audio.splitting import find_speech
from whisper_server.inference.audio.waveform import SAMPLE_RATE, JoinedParts, Waveform
from whisper_server.inference.transcription.segments import Segment, from_faster_whisper
from whisper_server.inference.transcription.token_scores import count_tokens, with_scores

# openai-whisper's `transcribe()` decodes greedily and samples once at higher temperatures; faster-whisper uses 5 and 5.
_DEFAULTS: dict[str, Any] = {"beam_size": 1, "best_of": 1}

_TIMESTAMP_TOKENS = 1501
_CONTEXT = 448
_PREVIOUS_TEXT = _CONTEXT // 2 - 1
# <|startofprev|>, <|startoftranscript|>, language, task, and <|notimestamps|> or a first timestamp
_TASK_TOKENS = 6
_MIN_NEW_TOKENS = 100

OnSegment: TypeAlias = Callable[[Segment], None]
# Gets the fraction of the audio that is done, from 0 to 1; called in any of the request's threads.
OnProgress: TypeAlias = Callable[[float], None]


def ignore(*arguments: object) -> None:
    """A callback that does nothing."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """`duration` is the length of the audio in seconds; `prompt_tokens` counts those of the prompt and the hotwords.

    `language_probability` is 1 for a language that was given, and None if it is not known.
    """

    segments: list[Segment]
    language: str
    duration: float
    prompt_tokens: int = 0
    language_probability: float | None = None

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)


def transcribe(
    whisper: WhisperModel,
    audio: Waveform,
    options: Mapping[str, Any],
    *,
    scores: bool = False,
    on_segment: OnSegment = ignore,
    on_progress: OnProgress = ignore,
) -> Transcript:
    """Transcribe a waveform with keyword arguments of `WhisperModel.transcribe()`.

    The defaults are those of openai-whisper. `scores` adds the scores of text tokens to the segments; `on_segment` gets
    each segment as soon as it is decoded. Raises Cancelled, or BadOption for an option that the model does not support.
    """
    results, info = _start(whisper, audio, checked_keywords(whisper, options), on_progress)
    segments = (from_faster_whisper(result) for result in results)
    reported = report_segments(with_scores(whisper, segments) if scores else segments, on_segment)
    return transcript_of(whisper, list(reported), info, audio, options)


def transcript_of(
    whisper: WhisperModel, segments: list[Segment], info: Any, audio: Waveform, options: Mapping[str, Any]
) -> Transcript:
    """Return the transcript; `info` is faster-whisper's TranscriptionInfo."""
    seconds, tokens = len(audio) / SAMPLE_RATE, count_prompt_tokens(whisper, options)
    return Transcript(segments, info.language, seconds, tokens, float(info.language_probability))


def _start(
    whisper: WhisperModel, audio: Waveform, keywords: dict[str, Any], on_progress: OnProgress
) -> tuple[Iterable[Any], Any]:
    """Call `WhisperModel.transcribe()`, whose samples only tell it their number, as it gets the features ready."""
    check = whisper.model.context.check
    enabled, parameters = keywords.pop("vad_filter", False), keywords.pop("vad_parameters", None)
    parts = []
    if enabled and keywords.get("clip_timestamps", "0") == "0":
        parts = find_speech(audio, VadOptions(**parameters or {}), check)
        audio = JoinedParts(audio, parts)
    blocks = FeatureBlocks(whisper.feature_extractor, audio, check=check)
    features = LazyFeatures(blocks, lambda frame: on_progress(min(1.0, frame / blocks.frames)))
    whisper.feature_extractor = _ConstantExtractor(whisper.feature_extractor, features)
    results, info = whisper.transcribe(np.broadcast_to(np.float32(0), len(audio)), **keywords)
    if parts:
        chunks = [{"start": start, "end": stop} for start, stop in parts]
        results = restore_speech_timestamps(results, chunks, SAMPLE_RATE)
    return results, info


def report_segments(segments: Iterable[Segment], on_segment: OnSegment) -> Iterator[Segment]:
    for segment in segments:
        on_segment(segment)
        yield segment


def count_prompt_tokens(whisper: WhisperModel, options: Mapping[str, Any]) -> int:
    return sum(count_tokens(whisper, options.get(name) or "") for name in ("initial_prompt", "hotwords"))


def check_candidates(whisper: WhisperModel, languages: Sequence[str]) -> None:
    """Raise BadOption if the model can detect none of the languages; without any, all of its languages are allowed."""
    if languages and not set(languages) & set(languages_of(whisper)):
        raise BadOption("languages", ",".join(languages), "a language of this model among them")


def checked_keywords(whisper: WhisperModel, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options over openai-whisper's defaults; raises BadOption for one that this model does not support."""
    keywords = {**_DEFAULTS, **options}
    check_language(whisper, keywords.get("language"))
    _check_suppressed_tokens(whisper, keywords)
    _check_prompt_length(whisper, keywords)
    return keywords


def check_language(whisper: WhisperModel, language: str | None) -> None:
    """Raise BadOption for a language that the model does not have."""
    if language is not None and language not in languages_of(whisper):
        allowed = "en, as this model is English-only" if not whisper.model.is_multilingual else "one of its languages"
        raise BadOption("language", language, allowed)


def languages_of(whisper: WhisperModel) -> list[str]:
    """Return the codes of the languages that the model has.

    faster-whisper lists Cantonese for every multilingual model, but only large-v3 and its kin have its token.
    """
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
        # faster-whisper suppresses the special tokens, as it always should, only if the list is not empty.
        keywords["suppress_tokens"] = [whisper.hf_tokenizer.token_to_id("<|startoftranscript|>")]


def _check_prompt_length(whisper: WhisperModel, keywords: dict[str, Any]) -> None:
    """A prompt that fills the context leaves no room for text, and the model then silently returns none."""

    def tokens(name: str) -> int:
        text = keywords.get(name)
        return min(_PREVIOUS_TEXT, len(whisper.hf_tokenizer.encode(" " + text).ids)) if text else 0

    conditioned = keywords.get("condition_on_previous_text", True)
    previous = _PREVIOUS_TEXT if conditioned else tokens("initial_prompt")
    room = _CONTEXT - _TASK_TOKENS - previous - tokens("hotwords") - tokens("prefix")
    limit = keywords.get("max_new_tokens")
    if limit is not None and limit > room:
        raise BadOption("max_new_tokens", limit, f"at most {room}, which is what the prompt leaves")
    if room < _MIN_NEW_TOKENS:
        field = "hotwords" if tokens("hotwords") >= tokens("prefix") else "prefix"
        raise BadOption(field, keywords[field], f"a shorter text: the prompt leaves {room} tokens for the transcript")


class _ConstantExtractor:
    """A feature extractor that returns the same features for any samples."""

    def __init__(self, extractor: Any, features: LazyFeatures) -> None:
        self._extractor = extractor
        self._features = features

    def __getattr__(self, name: str) -> Any:
        return getattr(self._extractor, name)

    def __call__(self, *args: Any, **kwargs: Any) -> LazyFeatures:
        return self._features
