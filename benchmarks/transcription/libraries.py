"""The libraries that the server is compared with. Each runs in a process that loads its model and waits for clips."""

from __future__ import annotations

import ast
import io
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.transcription.workload import SharedOptions, Transcribe, transcribe_clips


def run_library(connection: Connection, kind: str, options: Mapping[str, str], shared: SharedOptions) -> None:
    """Send "ready", then a RunResult for each (clips, clients) that is received, until None is received."""
    transcribe = LIBRARIES[kind](dict(options), shared)
    connection.send("ready")
    while (work := connection.recv()) is not None:
        connection.send(transcribe_clips(transcribe, *work))


def _faster_whisper(options: dict[str, str], shared: SharedOptions) -> Transcribe:
    from faster_whisper import decode_audio

    model = _load_model(options, shared)
    keywords = _keywords(options, shared)

    def transcribe(content: bytes) -> str:
        segments, _ = model.transcribe(decode_audio(io.BytesIO(content)), **keywords)
        return "".join(segment.text for segment in segments)

    return transcribe


def _batched_pipeline(options: dict[str, str], shared: SharedOptions) -> Transcribe:
    from faster_whisper import BatchedInferencePipeline, decode_audio

    model = _load_model(options, shared)
    keywords = _keywords(options, shared)

    def transcribe(content: bytes) -> str:
        pipeline = BatchedInferencePipeline(model)  # it has state of one file
        segments, _ = pipeline.transcribe(decode_audio(io.BytesIO(content)), **keywords)
        return "".join(segment.text for segment in segments)

    return transcribe


def _openai_whisper(options: dict[str, str], shared: SharedOptions) -> Transcribe:
    import torch
    import whisper
    from faster_whisper import decode_audio

    if threads := int(options.pop("threads", "0")):
        torch.set_num_threads(threads)
    model = whisper.load_model(options.pop("checkpoint"), device=shared.device)
    keywords = {"fp16": shared.device != "cpu", **_keywords(options, shared)}
    if keywords["beam_size"] == 1:
        keywords["beam_size"] = None  # greedy, which is faster
    lock = Lock()  # two threads would share the model's key-value cache

    def transcribe(content: bytes) -> str:
        audio = decode_audio(io.BytesIO(content))
        with lock:
            text: str = model.transcribe(audio, **keywords)["text"]
        return text

    return transcribe


LIBRARIES: dict[str, Callable[[dict[str, str], SharedOptions], Transcribe]] = {
    "faster-whisper": _faster_whisper,
    "batched-pipeline": _batched_pipeline,
    "openai-whisper": _openai_whisper,
}


def _load_model(options: dict[str, str], shared: SharedOptions) -> Any:
    """Remove workers and threads from the options; the others are for transcribe()."""
    from faster_whisper import WhisperModel

    return WhisperModel(
        str(find_model(shared.model)),
        device=shared.device,
        compute_type=shared.compute_type,
        num_workers=int(options.pop("workers", "1")),
        cpu_threads=int(options.pop("threads", "0")),
    )


def find_model(name: str) -> Path:
    """The directory that the server would load offline."""
    from whisper_server.core.settings import Settings, cache_dir
    from whisper_server.inference.models.catalogue import PACKAGES
    from whisper_server.inference.models.packages import PackagedModels
    from whisper_server.inference.models.resolver import ModelResolver

    packages = PackagedModels(PACKAGES, cache_dir=cache_dir() / "packages")
    return ModelResolver(models_dir=Settings().models_dir, packages=packages, offline=True).resolve(name)


def _keywords(options: Mapping[str, str], shared: SharedOptions) -> dict[str, Any]:
    texts = {**shared.decoding, **options}
    return {"beam_size": shared.beam, "best_of": 1, **{name: literal(text) for name, text in texts.items()}}


def literal(text: str) -> Any:
    """Return the Python value of a text such as 0.2, 0,0.2 or true, or the text itself if it is not a literal."""
    try:
        return ast.literal_eval(text.capitalize() if text in ("true", "false", "none") else text)
    except (ValueError, SyntaxError):
        return text
