"""The result of a job in the format that somebody wants now, whatever it was posted with."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import PlainTextResponse, Response

from whisper_server.api.requests.openai_form import parse_contract
from whisper_server.api.requests.options import RENDERING, Field
from whisper_server.api.requests.parsers import Choice
from whisper_server.api.responses import subtitles
from whisper_server.api.responses.openai_json import render_answer
from whisper_server.core.errors import BadOption
from whisper_server.inference.transcription.sequential import Transcript
from whisper_server.jobs.job import Job

FORMATS = ("json", "text", "srt", "vtt", "verbose_json", "tsv")
_FORMAT = Field("response_format", Choice({name: name for name in FORMATS}), "the body (as the job was posted)")
_OF_THE_LAYOUT = tuple(field for field in RENDERING if field.name != "response_format")
QUERY = (_FORMAT, *_OF_THE_LAYOUT)

_CHANGEABLE = {"timestamp_granularities", *(field.name for field in QUERY)}
# What only one format has; a job that was posted with it can still be had in others.
_ONLY_IN = {"include": "json", "timestamp_granularities": "verbose_json"}


def render_result(transcript: Transcript, job: Job, query: Iterable[tuple[str, str]]) -> Response:
    """Return the body; raises BadOption, also if the job has no words and the format needs them."""
    wanted = [(name, value) for name, value in query if _base(name) in _CHANGEABLE]
    given = next((value for name, value in reversed(wanted) if name == "response_format" and value.strip()), None)
    response_format = _FORMAT.parse(given) if given is not None else job.response_format
    if response_format == "tsv":
        return PlainTextResponse(subtitles.tsv(transcript.segments), media_type="text/tab-separated-values")
    pairs = [*_kept(job, {_base(name) for name, _ in wanted}, response_format), *wanted]
    asked = parse_contract([*pairs, ("response_format", response_format)], task="transcribe")
    if asked.words and any(segment.words is None for segment in transcript.segments):
        raise BadOption("response_format", response_format, "one without words: the job was posted without them")
    return render_answer(transcript, asked)


def _kept(job: Job, changed: set[str], response_format: str) -> Iterable[tuple[str, str]]:
    """What the job was posted with, without what is asked for anew or does not go with the format."""
    for name, value in job.fields:
        base = _base(name)
        fits = _ONLY_IN.get(base, response_format) == response_format
        if fits and base not in changed and base != "response_format":
            yield name, value


def _base(name: str) -> str:
    return name.partition("[")[0]
