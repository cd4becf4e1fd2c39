"""Benchmarks, to run from the root of the repository: `python -m benchmarks.transcription.throughput --help`."""
