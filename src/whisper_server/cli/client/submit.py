"""`whisper-server submit FILES…`: submit recordings as jobs, watch the jobs and download the transcripts."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from whisper_server.cli.client.inputs import InputFile, find_inputs
from whisper_server.cli.client.jobs_client import FINAL, Job, JobsClient, RequestRefused
from whisper_server.cli.client.progress import ProgressDisplay
from whisper_server.cli.client.server_options import add_server, api_key
from whisper_server.core.errors import SettingsError
from whisper_server.core.settings import CommandLineParser

# File extensions by response format.
EXTENSIONS = {"json": "json", "text": "txt", "srt": "srt", "vtt": "vtt", "tsv": "tsv", "verbose_json": "json"}
_POLL_INTERVAL = 1.0
# The server runs jobs in order, so the first unfinished ones are those that make progress. They are polled each time,
# and all of them every 15th time.
_POLLED_JOBS = 8
_ROUNDS_BETWEEN_FULL_POLLS = 15


def run(argv: Sequence[str]) -> int:
    """Return 0 if every file has its transcript (or its job), otherwise 1, and 130 after Ctrl-C.

    Raises SettingsError, ServerUnreachable or RequestRefused.
    """
    arguments = _parser().parse_args(argv)
    inputs = find_inputs(arguments.files)
    fields = _fields(arguments)
    key = api_key(arguments)
    with ProgressDisplay() as display, closing(JobsClient(arguments.url, key, report=display.print)) as client:
        try:
            client.check()
            submission = Submission(client, display, arguments.output, arguments.formats)
            failed = submission.upload(inputs, fields, again=arguments.again)
            return 1 if failed + (submission.watch() if arguments.watch else 0) else 0
        except KeyboardInterrupt:
            display.print("The jobs continue on the server. Repeat the command with --watch to resume watching.")
            return 130


@dataclass
class Submission:
    """The jobs of one command, from the upload to the transcripts."""

    client: JobsClient
    display: ProgressDisplay
    output: Path
    formats: Sequence[str]
    jobs: dict[InputFile, Job] = field(default_factory=dict)

    def upload(self, inputs: Sequence[InputFile], fields: Mapping[str, str], *, again: bool) -> int:
        """Upload one file after the other; returns the number of failures."""
        failed = 0
        for input_file in inputs:
            try:
                size = input_file.path.stat().st_size
                with self.display.uploading(input_file.path.name, size) as on_sent:
                    job = self.client.submit(input_file.path, fields, again=again, on_sent=on_sent)
            except (RequestRefused, OSError) as exc:
                self.display.print(f"{input_file.path}: {exc}")
                failed += 1
                continue
            self.jobs[input_file] = job
            self.display.print(f"{input_file.path}: {job['id']} ({job['state']})")
        return failed

    def watch(self) -> int:
        """Write the transcripts until all jobs are finished; returns the number of files without one."""
        failed = rounds = 0
        unfinished = dict(self.jobs)
        while unfinished:
            polled = list(unfinished)
            if rounds % _ROUNDS_BETWEEN_FULL_POLLS:
                polled = polled[:_POLLED_JOBS]
            for input_file in polled:
                succeeded = self._poll(input_file, unfinished[input_file])
                if succeeded is not None:
                    del unfinished[input_file]
                    failed += not succeeded
            rounds += 1
            if unfinished:
                time.sleep(_POLL_INTERVAL)
        return failed

    def _poll(self, input_file: InputFile, job: Job) -> bool | None:
        """Return whether the transcript has been written, or None if the job is not finished."""
        try:
            job = job if job["state"] in FINAL else self.client.get(job["id"])
            self.display.show(str(input_file.path), job)
            if job["state"] not in FINAL:
                return None
            if job["state"] == "succeeded":
                written = [self._write(input_file, job["id"], name) for name in self.formats]
                self.display.finish(str(input_file.path), job, ", ".join(map(str, written)))
                return True
            reason = (job.get("error") or {}).get("message") or job["state"]
        except (RequestRefused, OSError) as exc:
            reason = str(exc)
        self.display.finish(str(input_file.path), job, f"no transcript: {reason}")
        return False

    def _write(self, input_file: InputFile, job_id: str, response_format: str) -> Path:
        """Write the transcript atomically."""
        target = self.output / input_file.target
        target = target.with_name(f"{target.name}.{EXTENSIONS[response_format]}")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            part.write_bytes(self.client.result(job_id, response_format))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target


def _formats(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in EXTENSIONS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(EXTENSIONS)}")
    if len({EXTENSIONS[name] for name in names}) < len(names):
        raise argparse.ArgumentTypeError("two of them would be written to the same file")
    return names


def _fields(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the form fields for POST /v1/jobs."""
    fields = {name: getattr(arguments, name) for name in ("model", "language", "task", "prompt")}
    for option in arguments.options:
        name, equals, value = option.partition("=")
        if not (name and equals):
            raise SettingsError(f"--option {option!r} is not NAME=VALUE")
        fields[name] = value
    return {name: value for name, value in fields.items() if value is not None}


def _parser() -> CommandLineParser:
    parser = CommandLineParser(
        prog="whisper-server submit",
        description="Submit recordings as jobs of a server, watch them and download the transcripts (docs/jobs.md).",
        epilog="Exit status: 0 after success, 1 if a recording failed, 2 if the command is wrong. A repeated command "
        "finds its existing jobs and continues to watch them.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="files, directories or patterns such as '**/*.mp3'")
    add_server(parser)
    parser.add_argument(
        "--format",
        dest="formats",
        type=_formats,
        default=["text"],
        metavar="FORMAT,…",
        help=f"formats of the transcripts: {', '.join(EXTENSIONS)} (default: text)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path(), metavar="DIR", help="directory for the transcripts (default: here)"
    )
    parser.add_argument("--watch", action="store_true", help="wait until all jobs finish, and download the transcripts")
    parser.add_argument("--again", action="store_true", help="create new jobs, even for files that have one")
    parser.add_argument("--model", help="model that transcribes the files (default: the server's)")
    parser.add_argument("--language", help="spoken language, such as en (default: detected for each file)")
    parser.add_argument("--task", choices=("transcribe", "translate"), help="translate means: into English")
    parser.add_argument("--prompt", help="words and names to expect")
    parser.add_argument(
        "--option",
        dest="options",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other field of POST /v1/jobs, such as beam_size=5; may be repeated",
    )
    return parser
