"""Libraries as peers of the server, each in a process that loads its model and then waits for work."""

from __future__ import annotations

import ast
import io
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import Any

from work import Common, Transcribe, transcribe_all


def be_peer(connection: Connection, kind: str, options: Mapping[str, str], common: Common) -> None:
    transcribe = PEERS[kind](dict(options), common)
    connection.send("ready")
    while (job := connection.recv()) is not None:
        connection.send(transcribe_all(transcribe, *job))


def _faster_whisper(options: dict[str, str], common: Common) -> Transcribe:
    from faster_whisper import decode_audio

    model = _load_model(options, common)
    keywords = _keywords(options, common)

    def transcribe(content: bytes) -> str:
        segments, _ = model.transcribe(decode_audio(io.BytesIO(content)), **keywords)
        return "".join(segment.text for segment in segments)

    return transcribe


def _batched_pipeline(options: dict[str, str], common: Common) -> Transcribe:
    from faster_whisper import BatchedInferencePipeline, decode_audio

    model = _load_model(options, common)
    keywords = _keywords(options, common)

    def transcribe(content: bytes) -> str:
        pipeline = BatchedInferencePipeline(model)  # it keeps the state of a file
        segments, _ = pipeline.transcribe(decode_audio(io.BytesIO(content)), **keywords)
        return "".join(segment.text for segment in segments)

    return transcribe


def _openai_whisper(options: dict[str, str], common: Common) -> Transcribe:
    import torch
    import whisper
    from faster_whisper import decode_audio

    if threads := int(options.pop("threads", "0")):
        torch.set_num_threads(threads)
    model = whisper.load_model(options.pop("checkpoint"), device=common.device)
    keywords = {"fp16": common.device != "cpu", **_keywords(options, common)}
    if keywords["beam_size"] == 1:
        keywords["beam_size"] = None  # greedy, which is faster
    turn = Lock()  # its key-value cache hangs on the model, so that two threads would mix theirs

    def transcribe(content: bytes) -> str:
        audio = decode_audio(io.BytesIO(content))
        with turn:
            text: str = model.transcribe(audio, **keywords)["text"]
        return text

    return transcribe


PEERS: dict[str, Callable[[dict[str, str], Common], Transcribe]] = {
    "faster-whisper": _faster_whisper,
    "batched-pipeline": _batched_pipeline,
    "openai-whisper": _openai_whisper,
}


def _load_model(options: dict[str, str], common: Common) -> Any:
    """Takes workers and threads out of the options; the rest is for transcribe()."""
    from faster_whisper import WhisperModel

    return WhisperModel(
        str(find_model(common.model)),
        device=common.device,
        compute_type=common.compute_type,
        num_workers=int(options.pop("workers", "1")),
        cpu_threads=int(options.pop("threads", "0")),
    )


def find_model(name: str) -> Path:
    """The directory that the server would take, without asking the hub."""
    from whisper_server.core.settings import Settings, cache_dir
    from whisper_server.inference.models.catalogue import PACKAGES
    from whisper_server.inference.models.packages import PackagedModels
    from whisper_server.inference.models.resolver import ModelResolver

    packages = PackagedModels(PACKAGES, cache_dir=cache_dir() / "packages")
    return ModelResolver(models_dir=Settings().models_dir, packages=packages, offline=True).resolve(name)


def _keywords(options: Mapping[str, str], common: Common) -> dict[str, Any]:
    texts = {**common.decoding, **options}
    return {"beam_size": common.beam, "best_of": 1, **{name: value(text) for name, text in texts.items()}}


def value(text: str) -> Any:
    """0.2, 0,0.2 and true as Python's values; what is none of these is a text."""
    try:
        return ast.literal_eval(text.capitalize() if text in ("true", "false", "none") else text)
    except (ValueError, SyntaxError):
        return text
