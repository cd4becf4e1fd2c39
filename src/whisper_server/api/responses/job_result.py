"""Render the result of a job, in the format of the job or in another one that the query names."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import Response

from whisper_server.api.requests.openai_form import parse_openai_form
from whisper_server.api.requests.options import RENDERING, Field, SubtitleLayout
from whisper_server.api.requests.parsers import one_of
from whisper_server.api.responses.openai_json import render_transcript
from whisper_server.api.responses.whisper_json import render_file
from whisper_server.core.errors import BadOption
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.job import Job

FORMATS = ("json", "text", "srt", "vtt", "verbose_json", "tsv")
_FORMAT = Field("response_format", one_of(*FORMATS), "the format (that of the job)")
_LAYOUT = tuple(field for field in RENDERING if field.name != "response_format")
QUERY = (_FORMAT, *_LAYOUT)

_OVERRIDABLE = {"timestamp_granularities", *(field.name for field in QUERY)}
# Fields that only one format accepts. They are dropped when the job is rendered in another.
_FORMAT_OF_FIELD = {"include": "json", "timestamp_granularities": "verbose_json"}


def render_result(transcript: Transcript, job: Job, query: Iterable[tuple[str, str]]) -> Response:
    """Raises BadOption, also if the format needs word timestamps and the job was submitted without them."""
    overrides = [(name, value) for name, value in query if _base_name(name) in _OVERRIDABLE]
    formats = [value for name, value in overrides if name == "response_format" and value.strip()]
    response_format = _FORMAT.parse(formats[-1]) if formats else _format_of(job)
    if response_format == "tsv":
        return render_file(transcript.segments, response_format, SubtitleLayout())
    submitted = _submitted_fields(job, {_base_name(name) for name, _ in overrides}, response_format)
    pairs = [*submitted, *overrides, ("response_format", response_format)]
    request = parse_openai_form(pairs, task="transcribe")
    if request.words and any(segment.words is None for segment in transcript.segments):
        raise BadOption(
            "response_format", response_format, "a format without words: the job was submitted without word_timestamps"
        )
    return render_transcript(transcript, request)


def _format_of(job: Job) -> str:
    """Jobs that were submitted with another API have a format that is only sent to their callback."""
    return job.response_format if job.response_format in FORMATS else FORMATS[0]


def _submitted_fields(job: Job, overridden: set[str], response_format: str) -> Iterable[tuple[str, str]]:
    """Yield the fields of the submission that are not overridden and that the format accepts."""
    for name, value in job.fields if job.response_format in FORMATS else ():
        base = _base_name(name)
        accepted = _FORMAT_OF_FIELD.get(base, response_format) == response_format
        if accepted and base not in overridden and base != "response_format":
            yield name, value


def _base_name(name: str) -> str:
    return name.partition("[")[0]
