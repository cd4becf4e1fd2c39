"""The options of commands that are clients of a server, and the error messages of that server."""

from __future__ import annotations

import argparse
import json
import os

KEY_VARIABLE = "WHISPER_API_KEY"


def add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://localhost:5000", help="URL of the server (default: %(default)s)")
    parser.add_argument(
        "--api-key",
        default="",
        metavar="KEY",
        help=f"API key of the server; the variable {KEY_VARIABLE} hides it from ps",
    )


def api_key(arguments: argparse.Namespace) -> str:
    """Return the API key of the command line or of the environment, or an empty string."""
    key: str = arguments.api_key or os.environ.get(KEY_VARIABLE, "")
    return key


def error_message(body: bytes | bytearray) -> str:
    """Return the message in the body of an error response; empty if it is not one of a whisper-server."""
    try:
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return ""
