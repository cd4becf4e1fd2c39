"""The tests of `--check` that may crash, each in a process of its own: device, memory plan, a window of a compute type.

    python -m whisper_server.cli.server.probes device auto auto
    python -m whisper_server.cli.server.probes plan DIRECTORY '{"device": "auto", "compute_type": "auto", …}'
    python -m whisper_server.cli.server.probes window cuda:0 float16 DIRECTORY

Prints one JSON object: the result, or {"error": "…", "hint": "…"}.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from whisper_server.core.errors import HintedError, ModelIncomplete, ModelLoadFailed, OutOfMemory, WhisperServerError
from whisper_server.core.settings import cache_dir
from whisper_server.inference.hardware import cuda_diagnostics
from whisper_server.inference.hardware.autotune import Tuner
from whisper_server.inference.hardware.cublas import INSTALL_COMMAND, load_cublas
from whisper_server.inference.hardware.device import Device
from whisper_server.inference.hardware.worker_plan import WorkerConfig
from whisper_server.inference.models.loader import ModelLoader

SMALLER_MODEL = "use a smaller model or --compute-type int8, or stop other programs that use the memory"
# CTranslate2, CUDA and C++ report errors only as text. The keys match a part of it; the values say what helps.
_LIBRARY_HINTS = {
    r"libcublas": INSTALL_COMMAND,
    r"driver version is insufficient": "install NVIDIA's driver 525.60 or newer",
    r"out of memory|bad_alloc|MemoryError|cannot allocate": SMALLER_MODEL,
    r"no kernel image": "pip install --upgrade ctranslate2; this version does not support the GPU",
    r"CUBLAS_STATUS_NOT_SUPPORTED": "use --compute-type auto",
}


def library_hint(message: str) -> str:
    """Return what to do about the error message of a library, or an empty string."""
    hints = (hint for pattern, hint in _LIBRARY_HINTS.items() if re.search(pattern, message, re.IGNORECASE))
    return next(hints, "")


def failure(exc: Exception) -> dict[str, str]:
    """Return the JSON object for an exception. A model that fails for no known reason is probably damaged."""
    error = exc.message if isinstance(exc, HintedError) else str(exc) or type(exc).__name__
    hint = library_hint(error) or getattr(exc, "hint", "")
    if isinstance(exc, OutOfMemory):
        hint = SMALLER_MODEL
    elif isinstance(exc, ModelLoadFailed):
        hint = hint or ModelIncomplete.hint
    return {"error": error, "hint": hint}


def find_device(name: str, compute_type: str) -> dict[str, Any]:
    """Return the device, its compute types and the selected one; raises SettingsError."""
    gpus = ctranslate2.get_cuda_device_count()
    problem = None if gpus or name == "cpu" else cuda_diagnostics.find_problem()
    if problem is not None and name != "auto":
        return {"error": f"device {name} is not there: {problem.cause}", "hint": problem.hint}
    device = Device.choose(name)
    return {
        "device": str(device),
        "note": problem.cause if problem else "",
        "selected": device.compute_types(compute_type)[0],
        "compute_types": sorted(ctranslate2.get_supported_compute_types(device.kind, device.indices[0])),
    }


def plan_memory(directory: str, settings_json: str) -> dict[str, Any]:
    """Return the compute type, the plan as text and whether it fits, for a JSON object of the settings."""
    settings: dict[str, Any] = json.loads(settings_json)
    device = Device.choose(settings["device"])
    types = device.compute_types(settings["compute_type"])
    config = WorkerConfig(settings["workers"], settings["cpu_threads"], settings["max_batch_size"])
    tuner = Tuner(device, types[0], config, cache=cache_dir() / "workers.json", measure=settings["autotune"])
    loader = ModelLoader(tuner, types=types, memory_limit=settings["memory_limit"])
    _, plan = loader.plan(Path(directory))
    return {"compute_type": plan.compute_type, "fits": plan.fits, "plan": str(plan)}


def decode_window(device_name: str, compute_type: str, directory: str) -> dict[str, Any]:
    """Load the model and transcribe 30 s of noise; returns seconds and bytes, or an error."""
    # If memory runs out, Linux should kill this process, and not a server that runs on the same machine.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    device = Device.choose(device_name)
    cublas_problem = load_cublas() if device.kind == "cuda" else ""
    tuner = Tuner(device, compute_type, WorkerConfig(1, 0, 1), cache=Path(os.devnull), measure=False)
    started = time.monotonic()
    try:
        model = ModelLoader(tuner).load("model", Path(directory))
    except WhisperServerError as exc:
        return {"error": cublas_problem, "hint": INSTALL_COMMAND} if cublas_problem else failure(exc)
    loaded = time.monotonic()
    rate = model.whisper.feature_extractor.sampling_rate
    noise = np.random.default_rng(0).standard_normal(30 * rate).astype(np.float32) / 10
    list(model.whisper.transcribe(noise, language="en", beam_size=1, temperature=0.0)[0])
    done = time.monotonic()
    model.close()
    return {"load_seconds": loaded - started, "window_seconds": done - loaded, "bytes": model.memory}


def main(argv: Sequence[str]) -> int:
    try:
        result = _PROBES[argv[0]](*argv[1:])
    except (HintedError, RuntimeError, ValueError, MemoryError, OSError) as exc:
        result = failure(exc)
    print(json.dumps(result))
    return 1 if "error" in result else 0


_PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "device": find_device,
    "plan": plan_memory,
    "window": decode_window,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
