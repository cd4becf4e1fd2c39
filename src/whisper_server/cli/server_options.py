"""Which server a command talks to, with which key, and what it says when it refuses."""

from __future__ import annotations

import argparse
import json
import os

KEY_VARIABLE = "WHISPER_API_KEY"


def add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://localhost:5000", help="the server (default: %(default)s)")
    parser.add_argument("--api-key", default="", metavar="KEY", help=f"its key; {KEY_VARIABLE} hides it from ps")


def api_key(arguments: argparse.Namespace) -> str:
    """The key, or nothing."""
    key: str = arguments.api_key or os.environ.get(KEY_VARIABLE, "")
    return key


def refusal(body: bytes | bytearray) -> str:
    """The server's own words in the body of an error; nothing if something else has answered."""
    try:
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return ""
