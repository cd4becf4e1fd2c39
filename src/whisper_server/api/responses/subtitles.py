"""Text, TSV and subtitle files, byte for byte as openai-whisper's writers produce them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from whisper_server.api.requests.options import SubtitleLayout
from whisper_server.inference.transcription.segments import Segment, Word, text_of

# Seconds, as in openai-whisper.
_LONG_PAUSE = 3.0
_UNLIMITED = 1000


@dataclass(frozen=True, slots=True)
class Cue:
    start: float
    end: float
    text: str


def txt(segments: Sequence[Segment]) -> str:
    return "".join(f"{segment.text.strip()}\n" for segment in segments)


def tsv(segments: Sequence[Segment]) -> str:
    rows = ((round(1000 * s.start), round(1000 * s.end), s.text.strip().replace("\t", " ")) for s in segments)
    return "start\tend\ttext\n" + "".join(f"{start}\t{end}\t{text}\n" for start, end, text in rows)


def srt(segments: Sequence[Segment], layout: SubtitleLayout) -> str:
    cues = enumerate(_cues(segments, layout), start=1)
    return "".join(f"{n}\n{_time_range(cue, ',', hours=True)}\n{cue.text}\n\n" for n, cue in cues)


def vtt(segments: Sequence[Segment], layout: SubtitleLayout) -> str:
    cues = _cues(segments, layout)
    return "WEBVTT\n\n" + "".join(f"{_time_range(cue, '.', hours=False)}\n{cue.text}\n\n" for cue in cues)


def _cues(segments: Sequence[Segment], layout: SubtitleLayout) -> Iterator[Cue]:
    if not segments or segments[0].words is None:
        return (Cue(s.start, s.end, s.text.strip().replace("-->", "->")) for s in segments)
    cues = _cue_words(segments, layout)
    if layout.highlight_words:
        return (cue for words in cues for cue in _highlighted(words))
    return (Cue(words[0].start, words[-1].end, text_of(words)) for words in cues)


def _cue_words(segments: Sequence[Segment], layout: SubtitleLayout) -> Iterator[list[Word]]:
    """Yield the words of each cue. A word that starts a line has no leading space, but a line break within a cue."""
    width = layout.max_line_width or _UNLIMITED
    cue: list[Word] = []
    line_length, lines = 0, 1
    previous = next((word.start for s in segments for word in s.words or ()), 0.0)
    for words in _word_chunks(segments, layout.max_words_per_line or _UNLIMITED):
        for i, word in enumerate(words):
            pause = not layout.keeps_segments and word.start - previous > _LONG_PAUSE
            chunk_starts = i == 0 and bool(cue) and layout.keeps_segments
            previous = word.start
            if line_length and line_length + len(word.text) <= width and not pause and not chunk_starts:
                line_length += len(word.text)
                cue.append(word)
                continue
            text = word.text.strip()
            full = layout.max_line_count is not None and (pause or lines >= layout.max_line_count)
            if chunk_starts or (cue and full):
                yield cue
                cue, lines = [], 1
            elif line_length:
                lines += 1
                text = "\n" + text
            line_length = len(text.strip())
            cue.append(replace(word, text=text))
    if cue:
        yield cue


def _word_chunks(segments: Sequence[Segment], size: int) -> Iterator[list[Word]]:
    for segment in segments:
        words = segment.words or []
        yield from (words[i : i + size] for i in range(0, len(words), size))


def _highlighted(words: list[Word]) -> Iterator[Cue]:
    """Yield one cue for each word, which is underlined, and one for each gap between words."""
    last = words[0].start
    for i, word in enumerate(words):
        if _timestamp(last) != _timestamp(word.start):
            yield Cue(last, word.start, text_of(words))
        yield Cue(word.start, word.end, text_of([*words[:i], _underlined(word), *words[i + 1 :]]))
        last = word.end


def _underlined(word: Word) -> Word:
    return replace(word, text=re.sub(r"^(\s*)(.*)$", r"\1<u>\2</u>", word.text))


def _time_range(cue: Cue, decimal_mark: str, *, hours: bool) -> str:
    return f"{_timestamp(cue.start, decimal_mark, hours=hours)} --> {_timestamp(cue.end, decimal_mark, hours=hours)}"


def _timestamp(seconds: float, decimal_mark: str = ".", *, hours: bool = True) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    hour_field = f"{hour:02d}:" if hours or hour else ""
    return f"{hour_field}{minute:02d}:{second:02d}{decimal_mark}{milliseconds:03d}"
