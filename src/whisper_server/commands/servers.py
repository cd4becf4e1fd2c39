"""Which server a command talks to, and with which key."""

from __future__ import annotations

import argparse
import os

KEY_VARIABLE = "WHISPER_API_KEY"


def add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://localhost:5000", help="the server (default: %(default)s)")
    parser.add_argument("--api-key", default="", metavar="KEY", help=f"its key; {KEY_VARIABLE} hides it from ps")


def api_key(arguments: argparse.Namespace) -> str:
    """The key, or nothing."""
    key: str = arguments.api_key or os.environ.get(KEY_VARIABLE, "")
    return key
