"""`whisper-server models`: the models on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

from whisper_server.bootstrap import build_resolver
from whisper_server.core.settings import CommandLineParser, Settings
from whisper_server.inference.hardware.device import Device
from whisper_server.inference.models.library import LibraryModel, ModelLibrary, memory_by_type

_SOURCES = {"disk": "--models-dir", "cache": "Hugging Face cache", "package": "Python package", "hub": "can be pulled"}


def run(argv: Sequence[str]) -> int:
    """Print a line for each model; raises SettingsError."""
    parser = CommandLineParser(
        prog="whisper-server models", description="List the models on this machine.", allow_abbrev=False
    )
    parser.add_argument("--all", action="store_true", help="list those that `whisper-server pull` knows, too")
    parser.add_argument("--models-dir", metavar="…", help="as for the server")
    parser.add_argument("--device", default="auto", metavar="…", help="whose memory is meant (default: %(default)s)")
    arguments = parser.parse_args(argv)
    flags = ["--device", arguments.device]
    flags += [] if arguments.models_dir is None else ["--models-dir", arguments.models_dir]
    settings = Settings.load(flags, os.environ)
    on_gpu = Device.choose(settings.device).kind != "cpu"
    models = ModelLibrary(build_resolver(settings)).list()
    rows = [_row(model, on_gpu) for model in models if arguments.all or model.source != "hub"]
    if not rows:
        print("There are no models on this machine; `whisper-server pull NAME` downloads one.")
        return 0
    for row in ("NAME", "WHERE", "SIZE", "MEMORY"), *rows:
        print(f"{row[0]:<24}  {row[1]:<18}  {row[2]:>8}  {row[3]}")
    return 0


def _row(model: LibraryModel, on_gpu: bool) -> tuple[str, str, str, str]:
    memory = memory_by_type(model.dimensions, on_gpu=on_gpu)
    amounts = ", ".join(f"{count / 1e9:.1f} GB in {compute_type}" for compute_type, count in memory.items())
    return model.id, _SOURCES[model.source], f"{model.size / 1e6:.0f} MB", amounts or "unknown"
