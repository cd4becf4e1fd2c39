"""`whisper-server pull NAME…`: download models, so that a server on this machine starts without a download."""

from __future__ import annotations

import os
from collections.abc import Sequence

from whisper_server.bootstrap import build_resolver
from whisper_server.core.settings import CommandLineParser, Settings
from whisper_server.inference.models.resolver import check_complete


def run(argv: Sequence[str]) -> int:
    """Download what is not on this machine and print where each model is.

    Raises SettingsError, ModelNotFound, ModelUnavailable, ModelLoadFailed or ModelIncomplete.
    """
    parser = CommandLineParser(
        prog="whisper-server pull",
        description="Download models into the Hugging Face cache, unless they are on this machine.",
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="model name or Hugging Face repository ID")
    parser.add_argument("--models-dir", metavar="…", help="as for the server")
    arguments = parser.parse_args(argv)
    flags = [] if arguments.models_dir is None else ["--models-dir", arguments.models_dir]
    resolver = build_resolver(Settings.load(flags, os.environ))
    for name in arguments.names:
        directory = resolver.resolve(name)
        check_complete(name, directory)
        print(f"{name}: {directory}, {(directory / 'model.bin').stat().st_size / 1e6:.0f} MB", flush=True)
    return 0
