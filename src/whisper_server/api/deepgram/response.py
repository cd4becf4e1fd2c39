"""Transcripts of files as Deepgram's response."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from whisper_server.api.deepgram.file_options import Rendering
from whisper_server.api.deepgram.words import alternative, confidence, model_info, model_uuid, timestamp, word_json
from whisper_server.api.streaming.common import round_seconds
from whisper_server.inference.transcription.segments import Word, text_of
from whisper_server.inference.transcription.sequential import Transcript

_SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")
# A paragraph ends with the sentence before a pause of so many seconds, or with its fifth sentence.
_PARAGRAPH_PAUSE = 1.5
_SENTENCES = 5


@dataclass(frozen=True, slots=True)
class AboutRequest:
    """`sha256` is the digest of the file, and `created` when the request was received, in UTC."""

    request_id: str
    sha256: str
    created: datetime
    model: str


def transcription(transcripts: Sequence[Transcript], rendering: Rendering, about: AboutRequest) -> dict[str, Any]:
    """Return the body of the response; `transcripts` has one for each channel."""
    results: dict[str, Any] = {"channels": [_channel(transcript, rendering) for transcript in transcripts]}
    if rendering.utterances:
        utterances = [
            utterance
            for number, transcript in enumerate(transcripts)
            for utterance in _utterances(transcript, number, rendering, about.request_id)
        ]
        results["utterances"] = sorted(utterances, key=lambda utterance: (utterance["start"], utterance["channel"]))
    return {"metadata": _metadata(transcripts, rendering, about), "results": results}


def _metadata(transcripts: Sequence[Transcript], rendering: Rendering, about: AboutRequest) -> dict[str, Any]:
    uuid = model_uuid(about.model)
    return {
        "transaction_key": "deprecated",
        "request_id": about.request_id,
        "sha256": about.sha256,
        "created": timestamp(about.created),
        "duration": round_seconds(transcripts[0].duration),
        "channels": len(transcripts),
        "models": [uuid],
        "model_info": {uuid: model_info(about.model)},
        **({"warnings": rendering.warnings} if rendering.warnings else {}),
        **({"tags": rendering.tags} if rendering.tags else {}),
        **({"extra": rendering.extra} if rendering.extra else {}),
    }


def _channel(transcript: Transcript, rendering: Rendering) -> dict[str, Any]:
    words = _words(transcript)
    content = alternative(words, transcript.language if rendering.multilingual else "")
    if rendering.paragraphs:
        content["paragraphs"] = _paragraphs_json(words)
    if not rendering.detected:
        return {"alternatives": [content]}
    probability = transcript.language_probability
    return {
        "alternatives": [content],
        "detected_language": transcript.language,
        **({} if probability is None else {"language_confidence": round(probability, 4)}),
    }


def _words(transcript: Transcript) -> list[Word]:
    return [word for segment in transcript.segments for word in segment.words or ()]


def _utterances(transcript: Transcript, channel: int, rendering: Rendering, id: str) -> Iterator[dict[str, Any]]:
    for words in _split_at_pauses(_words(transcript), rendering.split):
        language = transcript.language if rendering.multilingual else ""
        yield {
            "start": round_seconds(words[0].start),
            "end": round_seconds(words[-1].end),
            "confidence": confidence(words),
            "channel": channel,
            "transcript": text_of(words).strip(),
            **({"languages": [language]} if language else {}),
            "words": [word_json(word, language) for word in words],
            "id": str(uuid5(NAMESPACE_URL, f"{id}/{channel}/{words[0].start}")),
        }


def _split_at_pauses(words: Sequence[Word], pause: float) -> Iterator[Sequence[Word]]:
    ends = [n for n in range(1, len(words)) if words[n].start - words[n - 1].end >= pause]
    yield from _split(words, ends)


def _split(words: Sequence[Word], ends: Sequence[int]) -> Iterator[Sequence[Word]]:
    for start, end in zip([0, *ends], [*ends, len(words)], strict=True):
        if start < end:
            yield words[start:end]


def _paragraphs_json(words: Sequence[Word]) -> dict[str, Any]:
    paragraphs = list(_paragraphs(list(_sentences(words))))
    texts = (" ".join(text_of(sentence).strip() for sentence in paragraph) for paragraph in paragraphs)
    return {"transcript": "\n" + "\n\n".join(texts), "paragraphs": [_paragraph(paragraph) for paragraph in paragraphs]}


def _sentences(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    return _split(
        words, [n for n in range(1, len(words)) if words[n - 1].text.rstrip("\"'”’»)").endswith(_SENTENCE_ENDS)]
    )


def _paragraphs(sentences: Sequence[Sequence[Word]]) -> Iterator[Sequence[Sequence[Word]]]:
    paragraph: list[Sequence[Word]] = []
    for sentence in sentences:
        paused = paragraph and sentence[0].start - paragraph[-1][-1].end >= _PARAGRAPH_PAUSE
        if paused or len(paragraph) == _SENTENCES:
            yield paragraph
            paragraph = []
        paragraph.append(sentence)
    if paragraph:
        yield paragraph


def _paragraph(sentences: Sequence[Sequence[Word]]) -> dict[str, Any]:
    return {
        "sentences": [
            {
                "text": text_of(sentence).strip(),
                "start": round_seconds(sentence[0].start),
                "end": round_seconds(sentence[-1].end),
            }
            for sentence in sentences
        ],
        "num_words": sum(map(len, sentences)),
        "start": round_seconds(sentences[0][0].start),
        "end": round_seconds(sentences[-1][-1].end),
    }
