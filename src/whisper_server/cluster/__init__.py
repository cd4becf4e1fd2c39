"""The application on Ray Serve: `serve run whisper_server.cluster:app`. Importing this package does not import Ray."""

from __future__ import annotations

from typing import Any


def app(overrides: dict[str, Any]) -> Any:
    """Return the Ray Serve application; `overrides` are settings that take precedence over environment variables."""
    from whisper_server.cluster.deployment import application

    return application(overrides)
