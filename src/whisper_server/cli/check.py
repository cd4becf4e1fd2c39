"""`whisper-server --check`: can these settings serve? If not, why not, and what mends it.

Whatever may crash runs in processes of its own (trial.py), so that every check comes to its end.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from whisper_server import __version__
from whisper_server.core.errors import ModelNotFound, WhisperServerError
from whisper_server.core.settings import Settings, cache_dir
from whisper_server.inference.hardware.cublas import INSTALL_COMMAND
from whisper_server.inference.models import hub
from whisper_server.inference.models.catalogue import PACKAGES, REPOSITORIES
from whisper_server.inference.models.packages import PackagedModels
from whisper_server.inference.models.resolver import ModelResolver

# The settings that a plan of the memory depends on.
_PLANNED = ("device", "compute_type", "memory_limit", "workers", "cpu_threads", "max_batch_size", "measure")

# A trial that takes longer hangs.
_TRIAL_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the report: what was looked at, what was found, and what mends it."""

    state: Literal["ok", "note", "FAIL"]
    what: str
    text: str
    cure: str = ""

    def __str__(self) -> str:
        line = f"  {self.state:<5} {self.what:<14} {self.text}"
        return f"{line}\n        → {self.cure}" if self.cure else line


Trial = Callable[..., dict[str, Any]]
Step = tuple[str, Callable[[], str]]


def run(settings: Settings, steps: Sequence[Step], trial: Trial | None = None) -> int:
    """Print the report; returns 0 if the server can serve, otherwise 1.

    The steps come first: each returns what it has found, or raises what would keep the server from starting.
    """
    print(f"whisper-server {__version__}", flush=True)
    failed = 0
    for finding in _findings(settings, steps, trial or run_trial):
        print(finding, flush=True)
        failed += finding.state == "FAIL"
    print(f"These settings cannot serve: {failed} failed" if failed else "These settings can serve.")
    return 1 if failed else 0


def _findings(settings: Settings, steps: Sequence[Step], trial: Trial) -> Iterator[Finding]:
    for what, step in steps:
        yield _tried(what, step)
    device = trial("device", settings.device, settings.compute_type)
    yield _device(device)
    directory: list[Path] = []
    yield _tried("model", lambda: _model(settings, directory))
    if "error" not in device and directory:
        plan = trial("plan", str(directory[0]), json.dumps({name: getattr(settings, name) for name in _PLANNED}))
        yield _memory(plan)
        chosen = device["chosen"] if "error" in plan else plan["compute_type"]
        yield from _windows(device, chosen, directory[0], trial)


def _tried(what: str, step: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", what, step())
    except (WhisperServerError, ValueError, OSError) as exc:
        cause, _, advice = str(exc).partition(". What to do: ")
        return Finding("FAIL", what, cause, advice or _cure(cause))


def _device(found: dict[str, Any]) -> Finding:
    if "error" in found:
        return Finding("FAIL", "device", found["error"], found["cure"] or _cure(found["error"]))
    note = f" ({found['note']})" if found["note"] else ""
    return Finding("ok", "device", f"{found['device']}, {found['chosen']}{note}")


def _memory(plan: dict[str, Any]) -> Finding:
    """What does not fit may run nevertheless, if slowly: the windows are tried."""
    if "error" in plan:
        return Finding("FAIL", "memory", plan["error"], plan["cure"] or _cure(plan["error"]))
    return Finding("ok" if plan["fits"] else "note", "memory", plan["plan"], "" if plan["fits"] else _SMALLER)


def _model(settings: Settings, directory: list[Path]) -> str:
    """Put the model's directory into the list, unless it is on the hub only, and return where it is."""
    packages = PackagedModels(PACKAGES, cache_dir=cache_dir() / "packages")
    resolver = ModelResolver(models_dir=settings.models_dir, packages=packages, offline=True)
    try:
        path = resolver.resolve(settings.model)
    except ModelNotFound:
        repository = REPOSITORIES.get(settings.model, settings.model)
        if settings.offline or "/" not in repository:
            raise
        hub.check_exists(repository)
        return f"{settings.model}: the first start downloads {repository}; nothing can be tried before"
    directory.append(path)
    return f"{settings.model}: {path}, {(path / 'model.bin').stat().st_size / 1e6:.0f} MB"


def _windows(device: dict[str, Any], chosen: str, directory: Path, trial: Trial) -> Iterator[Finding]:
    """What will be used first; the other types may fail."""
    for compute_type in (chosen, *(other for other in device["compute_types"] if other != chosen)):
        found = trial("window", device["device"], compute_type, str(directory))
        if "error" in found:
            cure = found.get("cure") or _cure(found["error"])
            yield Finding("FAIL" if compute_type == chosen else "note", compute_type, found["error"], cure)
        else:
            yield Finding("ok", compute_type, _figures(found) + (", taken" if compute_type == chosen else ""))


def _figures(found: dict[str, Any]) -> str:
    memory = f", {found['bytes'] / 1e6:.0f} MB" if found["bytes"] else ""
    return f"loads in {found['load_seconds']:.1f} s, a window takes {found['window_seconds']:.1f} s{memory}"


def run_trial(*arguments: str) -> dict[str, Any]:
    """Return what `python -m whisper_server.cli.probes` finds, or how it ended."""
    command = [sys.executable, "-m", "whisper_server.cli.probes", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"nothing came of it in {_TRIAL_SECONDS} s", "cure": ""}
    return outcome(done.returncode, done.stdout, done.stderr)


def outcome(status: int, stdout: str, stderr: str) -> dict[str, Any]:
    """What a trial said; of one that crashed, its signal and last words."""
    said = stderr.strip().splitlines()[-1:]
    if status < 0:
        name = signal.Signals(-status).name
        return {"error": ": ".join([f"crashed by {name}", *said]), "cure": _SIGNALS.get(name, "")}
    try:
        found: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": ": ".join([f"ended with status {status}", *said]), "cure": ""}
    return found


def _cure(cause: str) -> str:
    return next((cure for pattern, cure in _CURES.items() if re.search(pattern, cause, re.IGNORECASE)), "")


_SMALLER = "a smaller model or --compute-type int8; or end what else uses the memory"
_SIGNALS = {
    "SIGKILL": _SMALLER,
    "SIGILL": "this processor lacks instructions that CTranslate2 needs; set CT2_FORCE_CPU_ISA=GENERIC",
}
# From parts of messages of the libraries to what mends it.
_CURES = {
    r"libcublas|cuBLAS 12 is not installed": INSTALL_COMMAND,
    r"driver version is insufficient": "install NVIDIA's driver 525.60 or newer",
    r"out of memory|bad_alloc|MemoryError|cannot allocate": _SMALLER,
    r"no kernel image": "pip install --upgrade ctranslate2; the card is newer or much older than this version",
    r"CUBLAS_STATUS_NOT_SUPPORTED|does not run on|not support": "--compute-type auto",
    r"is incomplete|not a CTranslate2 model|unable to open file|could not be loaded": (
        "convert or download the model again (docs/models.md)"
    ),
    r"Address already in use": "--port with another number, or 0; or end the server that has it",
    r"Permission denied": "--port from 1024 on",
    r"Cannot assign requested address|Name or service not known": "--host with an address of this machine",
    r"hub did not deliver": "--model with a name of a model that is here, or check the connection",
    r"device cuda:\d+ is not there": "--device with a smaller number, or cuda",
}
