"""Does it load and serve at all, in each type, how long does that take, and is the planned memory right?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

from benchmarks.card.bench import Bench, Model
from benchmarks.card.material import AUDIO
from benchmarks.card.results import Row, guarded
from benchmarks.card.served import memory_figures, model_state, plan_holds, running, send, serve

_CHECK_TIMEOUT = 300
_CLIENTS = 16


def run(bench: Bench) -> Iterator[Row]:
    models = [*bench.real_models, *bench.random_models]
    if bench.on_gpu:  # on a CPU it takes long, and shows nothing new
        yield guarded("whisper-server --check", partial(_check, bench, models[0]))
    for device in ("cuda:0", "auto") if bench.on_gpu else ("auto",):
        yield guarded(f"--device {device}", partial(_device, bench, models[0], device))
    for model in models if bench.on_gpu else bench.random_models:
        for compute_type in bench.scale.types:
            yield guarded(f"{model.name}, {compute_type}", partial(_load, bench, model, compute_type))


def _check(bench: Bench, model: Model) -> Row:
    command = [sys.executable, "-m", "whisper_server", "--check", "--device", bench.device, "--model", model.path]
    done = subprocess.run(
        [*command, "--offline", "--port", "0"], capture_output=True, text=True, timeout=_CHECK_TIMEOUT
    )
    report = (done.stdout + done.stderr).strip()
    figures = {"exit code": done.returncode}
    return Row("whisper-server --check", figures, "it finds nothing wrong", done.returncode == 0, note=report)


def _device(bench: Bench, model: Model, device: str) -> Row:
    """The short clip has to be transcribed; its text counts for real weights only."""
    with running(bench, model, device=device) as server:
        (clip,) = send(server, [AUDIO / "short.flac"], 1, bench.fields(model)).clips
        used = model_state(server)["memory"]["device"]
    holds = not clip.error and used == ("cuda:0" if bench.on_gpu else "cpu") and (model.random or "kettle" in clip.text)
    figures = {"device": used, "seconds": round(clip.seconds, 2), "text": clip.text or clip.error}
    return Row(f"--device {device}", figures, "the server uses the card, and transcribes the sentence", holds)


def _load(bench: Bench, model: Model, compute_type: str) -> Row:
    started = time.monotonic()
    served = serve(bench, model, ["--compute-type", compute_type], clients=_CLIENTS if bench.on_gpu else 2)
    figures = {
        "start s": round(served.start_seconds, 1),
        **memory_figures(bench, served),
        "all s": round(time.monotonic() - started, 1),
    }
    goal = "it serves in this type, and the planned memory is within 10 % of the peak by NVML"
    holds = plan_holds(served) and served.memory["compute_type"] == compute_type
    return bench.on_card(f"{model.name}, {compute_type}", figures, goal=goal, holds=holds)
