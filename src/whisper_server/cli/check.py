"""`whisper-server --check`: test whether the server can run with these settings, and say what to do if it cannot.

Whatever may crash runs in a process of its own (probes.py), so that the other checks still run.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from whisper_server import __version__
from whisper_server.bootstrap import build_resolver
from whisper_server.cli.server.probes import SMALLER_MODEL, library_hint
from whisper_server.core.errors import HintedError, ModelNotFound
from whisper_server.core.settings import Settings
from whisper_server.inference.models import hub
from whisper_server.inference.models.catalogue import REPOSITORIES, canonical_name

# The settings that the memory plan depends on.
_PLAN_SETTINGS = ("device", "compute_type", "memory_limit", "workers", "cpu_threads", "max_batch_size", "autotune")

# Seconds. A probe that takes longer is considered to hang.
_PROBE_TIMEOUT = 900

_SIGNAL_HINTS = {
    "SIGKILL": SMALLER_MODEL,
    "SIGILL": "this processor lacks instructions that CTranslate2 needs; set CT2_FORCE_CPU_ISA=GENERIC",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the report: what was checked, the result, and what to do about it."""

    state: Literal["ok", "note", "FAIL"]
    subject: str
    text: str
    hint: str = ""

    def __str__(self) -> str:
        line = f"  {self.state:<5} {self.subject:<14} {self.text}"
        return f"{line}\n        → {self.hint}" if self.hint else line


Probe = Callable[..., dict[str, Any]]
Step = tuple[str, Callable[[], str]]


def run(settings: Settings, steps: Sequence[Step], probe: Probe | None = None) -> int:
    """Print the report; returns 0 if the server can run, otherwise 1.

    The steps come first. Each returns its result as text, or raises what would keep the server from starting.
    """
    print(f"whisper-server {__version__}", flush=True)
    failed = 0
    for finding in _findings(settings, steps, probe or run_probe):
        print(finding, flush=True)
        failed += finding.state == "FAIL"
    print(f"These settings cannot serve: {failed} failed" if failed else "These settings can serve.")
    return 1 if failed else 0


def run_probe(*arguments: str) -> dict[str, Any]:
    """Return what `python -m whisper_server.cli.server.probes` prints, or an error and a hint that say how it ended."""
    command = [sys.executable, "-m", "whisper_server.cli.server.probes", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PROBE_TIMEOUT)
    except subprocess.TimeoutExpired:
        return {"error": f"no result within {_PROBE_TIMEOUT} s", "hint": ""}
    return probe_result(done.returncode, done.stdout, done.stderr)


def probe_result(status: int, stdout: str, stderr: str) -> dict[str, Any]:
    """Return the JSON that a probe printed; for one that crashed, an error with its last line on standard error."""
    last_line = stderr.strip().splitlines()[-1:]
    if status < 0:
        name = signal.Signals(-status).name
        error = ": ".join([f"crashed by {name}", *last_line])
        return {"error": error, "hint": _SIGNAL_HINTS.get(name) or library_hint(error)}
    try:
        result: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    except (IndexError, ValueError):
        error = ": ".join([f"ended with status {status}", *last_line])
        return {"error": error, "hint": library_hint(error)}
    return result


def _findings(settings: Settings, steps: Sequence[Step], probe: Probe) -> Iterator[Finding]:
    for subject, step in steps:
        yield _finding(subject, step)
    device = probe("device", settings.device, settings.compute_type)
    yield _device(device)
    directories: list[Path] = []
    yield _finding("model", lambda: _model(settings, directories))
    if "error" not in device and directories:
        plan_settings = {name: getattr(settings, name) for name in _PLAN_SETTINGS}
        plan = probe("plan", str(directories[0]), json.dumps(plan_settings))
        yield _memory(plan)
        selected = device["selected"] if "error" in plan else plan["compute_type"]
        yield from _windows(device, selected, directories[0], probe)


def _finding(subject: str, step: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", subject, step())
    except HintedError as exc:
        return Finding("FAIL", subject, exc.message, exc.hint)
    except (ValueError, OSError) as exc:
        return Finding("FAIL", subject, str(exc))


def _device(result: dict[str, Any]) -> Finding:
    if "error" in result:
        return Finding("FAIL", "device", result["error"], result["hint"])
    note = f" ({result['note']})" if result["note"] else ""
    return Finding("ok", "device", f"{result['device']}, {result['selected']}{note}")


def _memory(plan: dict[str, Any]) -> Finding:
    """A model that does not fit is only a note, as it may run slowly; the windows show whether it does."""
    if "error" in plan:
        return Finding("FAIL", "memory", plan["error"], plan["hint"])
    if plan["fits"]:
        return Finding("ok", "memory", plan["plan"])
    return Finding("note", "memory", plan["plan"], SMALLER_MODEL)


def _model(settings: Settings, directories: list[Path]) -> str:
    """Describe where the model is, and append its directory to the list unless it has to be downloaded first."""
    try:
        path = build_resolver(replace(settings, offline=True)).resolve(settings.model)
    except ModelNotFound:
        repository = REPOSITORIES.get(canonical_name(settings.model), settings.model)
        if settings.offline or "/" not in repository:
            raise
        hub.check_exists(repository)
        return f"{settings.model}: the first start downloads {repository}; it cannot be tested before that"
    directories.append(path)
    return f"{settings.model}: {path}, {(path / 'model.bin').stat().st_size / 1e6:.0f} MB"


def _windows(device: dict[str, Any], selected: str, directory: Path, probe: Probe) -> Iterator[Finding]:
    """Test the selected compute type first, then the others, which may fail."""
    for compute_type in (selected, *(other for other in device["compute_types"] if other != selected)):
        result = probe("window", device["device"], compute_type, str(directory))
        if "error" in result:
            state: Literal["note", "FAIL"] = "FAIL" if compute_type == selected else "note"
            yield Finding(state, compute_type, result["error"], result["hint"])
            continue
        text = f"loads in {result['load_seconds']:.1f} s, a window takes {result['window_seconds']:.1f} s"
        memory = f", {result['bytes'] / 1e6:.0f} MB" if result["bytes"] else ""
        yield Finding("ok", compute_type, text + memory + (", selected" if compute_type == selected else ""))
