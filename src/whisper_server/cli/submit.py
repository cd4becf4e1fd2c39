"""`whisper-server submit FILES…`: recordings become jobs of a server, which are watched; transcripts are fetched."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from whisper_server.cli.inputs import InputFile, find
from whisper_server.cli.jobs_client import FINAL, Job, JobsClient, RequestRefused
from whisper_server.cli.progress import ProgressDisplay
from whisper_server.cli.server_options import add_server, api_key
from whisper_server.core.settings import Parser, SettingsError

# By the format's name, the ending of the file.
ENDINGS = {"json": "json", "text": "txt", "srt": "srt", "vtt": "vtt", "tsv": "tsv", "verbose_json": "json"}
_LOOK_EVERY = 1.0
# The queue is served in order, so the first of those that are not done are those that move.
_LOOKED_AT = 8
_LOOK_AT_ALL = 15


def run(argv: Sequence[str]) -> int:
    """Return 0 if every file has its transcript (or its job), else 1.

    Raises SettingsError, ServerUnreachable or RequestRefused.
    """
    arguments = _parser().parse_args(argv)
    inputs = find(arguments.files)
    fields = _fields(arguments)
    with ProgressDisplay() as display, JobsClient(arguments.url, api_key(arguments), tell=display.say) as queue:
        try:
            queue.check()
            submission = Submission(queue, display, arguments.output, arguments.formats)
            failed = submission.send(inputs, fields, again=arguments.again)
            return 1 if failed + (submission.watch() if arguments.watch else 0) else 0
        except KeyboardInterrupt:
            display.say("The jobs go on. The same command with --watch looks after them again.")
            return 130


class Submission:
    """Recordings on their way through a server's queue."""

    def __init__(
        self,
        queue: JobsClient,
        display: ProgressDisplay,
        output: Path,
        formats: Sequence[str],
        *,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._queue = queue
        self._display = display
        self._output = output
        self._formats = formats
        self._wait = wait
        self._jobs: dict[InputFile, Job] = {}

    def send(self, inputs: Sequence[InputFile], fields: Mapping[str, str], *, again: bool) -> int:
        """Post one after the other; returns how many could not be."""
        failed = 0
        for input_file in inputs:
            try:
                size = input_file.path.stat().st_size
                with self._display.sending(input_file.name, size) as sent:
                    job = self._queue.submit(input_file.path, fields, again=again, sent=sent)
            except (RequestRefused, OSError) as exc:
                self._display.say(f"{input_file.path}: {exc}")
                failed += 1
                continue
            self._jobs[input_file] = job
            self._display.say(f"{input_file.path}: {job['id']} ({job['state']})")
        return failed

    def watch(self) -> int:
        """Until all are done; writes the transcripts, and returns how many there are not."""
        failed = rounds = 0
        waiting = dict(self._jobs)
        while waiting:
            looked_at = list(waiting) if rounds % _LOOK_AT_ALL == 0 else list(waiting)[:_LOOKED_AT]
            for input_file in looked_at:
                done = self._look(input_file, waiting[input_file])
                if done is not None:
                    del waiting[input_file]
                    failed += not done
            rounds += 1
            if waiting:
                self._wait(_LOOK_EVERY)
        return failed

    def _look(self, input_file: InputFile, job: Job) -> bool | None:
        """Whether it has its transcript now; None while it is not done."""
        try:
            job = job if job["state"] in FINAL else self._queue.look(job["id"])
            self._display.show(str(input_file.path), job)
            if job["state"] not in FINAL:
                return None
            if job["state"] == "succeeded":
                written = [self._write(input_file, job["id"], name) for name in self._formats]
                self._display.done(str(input_file.path), job, ", ".join(map(str, written)))
                return True
            reason = (job.get("error") or {}).get("message") or job["state"]
        except (RequestRefused, OSError) as exc:
            reason = str(exc)
        self._display.done(str(input_file.path), job, f"no transcript: {reason}")
        return False

    def _write(self, input_file: InputFile, job_id: str, name: str) -> Path:
        """Write a whole file or none."""
        target = self._output / input_file.target
        target = target.with_name(f"{target.name}.{ENDINGS[name]}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            try:
                file.write(self._queue.result(job_id, name))
                file.flush()
                os.chmod(file.name, 0o666 & ~_umask())
                os.replace(file.name, target)
            except BaseException:
                os.unlink(file.name)
                raise
        return target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _formats(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in ENDINGS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(ENDINGS)}")
    if len({ENDINGS[name] for name in names}) < len(names):
        raise argparse.ArgumentTypeError("two of them would be one file")
    return names


def _fields(arguments: argparse.Namespace) -> dict[str, str]:
    """Those of POST /v1/jobs."""
    fields = {name: getattr(arguments, name) for name in ("model", "language", "task", "prompt")}
    for option in arguments.options:
        name, equals, value = option.partition("=")
        if not (name and equals):
            raise SettingsError(f"--option {option!r} is not NAME=VALUE")
        fields[name] = value
    return {name: value for name, value in fields.items() if value is not None}


def _parser() -> Parser:
    parser = Parser(
        prog="whisper-server submit",
        description="Send recordings to a server's queue, watch them, and fetch the transcripts (docs/jobs.md).",
        epilog="Exit status: 0 if all went well, 1 if a recording failed, 2 if the command is wrong. Given again, the "
        "same command finds the jobs that it made, and goes on watching.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="files, directories or patterns such as '**/*.mp3'")
    add_server(parser)
    parser.add_argument(
        "--format",
        dest="formats",
        type=_formats,
        default=["text"],
        metavar="FORMAT,…",
        help=f"of {', '.join(ENDINGS)} (text)",
    )
    parser.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="for the transcripts (here)")
    parser.add_argument("--watch", action="store_true", help="stay until all are done, and fetch the transcripts")
    parser.add_argument("--again", action="store_true", help="make new jobs, even of files that have one")
    parser.add_argument("--model", help="that shall transcribe them (the server's own)")
    parser.add_argument("--language", help="spoken in them, such as en (each one's is found out)")
    parser.add_argument("--task", choices=("transcribe", "translate"), help="translate goes to English")
    parser.add_argument("--prompt", help="words and names that are to be expected")
    parser.add_argument(
        "--option",
        dest="options",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other field of POST /v1/jobs, such as beam_size=5; may come again",
    )
    return parser
