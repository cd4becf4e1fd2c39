"""The same application on Ray Serve: `serve run whisper_server.cluster:app`. Ray is imported only by who wants that."""

from __future__ import annotations

from typing import Any


def app(given: dict[str, Any]) -> Any:
    """Return Ray Serve's application; `given` are settings over the environment's."""
    from whisper_server.cluster.deployment import application

    return application(given)
