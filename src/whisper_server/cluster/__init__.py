"""The same application on Ray Serve: `serve run whisper_server.cluster:app`."""

from whisper_server.cluster.deployment import app

__all__ = ["app"]
