"""What --check tries, in a process of its own that may crash: the device, a model's plan, a window in a compute type.

    python -m whisper_server.cli.probes device auto auto
    python -m whisper_server.cli.probes plan DIRECTORY '{"device": "auto", "compute_type": "auto", …}'
    python -m whisper_server.cli.probes window cuda:0 float16 DIRECTORY

Prints one JSON object: what was found, or {"error": "…", "cure": "…"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from whisper_server.core.errors import WhisperServerError
from whisper_server.core.settings import SettingsError, cache_dir
from whisper_server.inference.hardware import cuda_diagnostics
from whisper_server.inference.hardware.autotune import Tuner
from whisper_server.inference.hardware.cublas import load_cublas
from whisper_server.inference.hardware.device import Device
from whisper_server.inference.hardware.worker_plan import WorkerConfig
from whisper_server.inference.models.loader import ModelLoader


def find_device(wanted: str, compute_type: str) -> dict[str, Any]:
    """Return the device, its compute types and the one that is taken; raises SettingsError."""
    cards = ctranslate2.get_cuda_device_count()
    problem = None if cards or wanted == "cpu" else cuda_diagnostics.find_problem()
    if problem is not None and wanted != "auto":
        return {"error": f"device {wanted} is not there: {problem.cause}", "cure": problem.fix}
    device = Device.choose(wanted)
    return {
        "device": str(device),
        "note": problem.cause if problem else "",
        "chosen": device.compute_type(compute_type),
        "compute_types": sorted(ctranslate2.get_supported_compute_types(device.kind, device.index)),
    }


def plan_memory(directory: str, settings: str) -> dict[str, Any]:
    """Return the type, the line for people, and whether it fits, for a JSON object of the settings that matter."""
    wanted: dict[str, Any] = json.loads(settings)
    device = Device.choose(wanted["device"])
    types = device.compute_types(wanted["compute_type"])
    spread = WorkerConfig(wanted["workers"], wanted["cpu_threads"], wanted["max_batch_size"])
    tuner = Tuner(device, types[0], spread, cache=cache_dir() / "workers.json", measure=wanted["measure"])
    loader = ModelLoader(tuner, types=types, memory_limit=wanted["memory_limit"])
    _, plan = loader.plan(Path(directory))
    return {"compute_type": plan.compute_type, "fits": plan.fits, "plan": str(plan)}


def try_window(wanted: str, compute_type: str, directory: str) -> dict[str, Any]:
    """Load the model and transcribe a window of noise: return seconds and bytes; raises ModelLoadFailed."""
    _be_the_first_to_go()
    device = Device.choose(wanted)
    problem = load_cublas() if device.kind == "cuda" else ""
    tuner = Tuner(device, compute_type, WorkerConfig(1, 0, 1), cache=Path(os.devnull), measure=False)
    started = time.monotonic()
    try:
        model = ModelLoader(tuner).load("model", Path(directory))
    except WhisperServerError as exc:
        raise RuntimeError(problem or str(exc)) from exc
    loaded = time.monotonic()
    rate = model.whisper.feature_extractor.sampling_rate
    noise = np.random.default_rng(0).standard_normal(30 * rate).astype(np.float32) / 10
    list(model.whisper.transcribe(noise, language="en", beam_size=1, temperature=0.0)[0])
    done = time.monotonic()
    model.close()
    return {"load_seconds": loaded - started, "window_seconds": done - loaded, "bytes": model.memory}


def _be_the_first_to_go() -> None:
    """If the memory does not suffice, Linux shall end this process and not a server that runs beside it."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def main(argv: Sequence[str]) -> int:
    try:
        found = _TRIALS[argv[0]](*argv[1:])
    except (SettingsError, WhisperServerError, RuntimeError, ValueError, MemoryError, OSError) as exc:
        found = {"error": str(exc) or type(exc).__name__, "cure": ""}
    print(json.dumps(found))
    return 1 if "error" in found else 0


_TRIALS: dict[str, Callable[..., dict[str, Any]]] = {
    "device": find_device,
    "plan": plan_memory,
    "window": try_window,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
