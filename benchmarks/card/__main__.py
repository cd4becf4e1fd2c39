"""Everything that is worth measuring on a card, step by step.

    python -m benchmarks.card --output card.jsonl --summary card.md
    python -m benchmarks.card load parity --output card.jsonl --summary card.md

Without names, all steps run, in the order of --help. A step takes ten minutes at most; one that is finished in the
output file is skipped, so the same command goes on after an interruption. Figures are written as they are measured,
and --summary is written after each step. Nothing is downloaded: models with random weights are made in --folder, as
speed and memory do not depend on the numbers. Texts are checked with real weights: those of tiny.en and base if their
packages are installed, and those of each --model. docs/run-on-your-card.md says what to install.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import ctranslate2

from benchmarks.card import material
from benchmarks.card.bench import CARD, DRY, Bench
from benchmarks.card.cublas_links import find_cublas, with_library_path
from benchmarks.card.machine import describe_machine
from benchmarks.card.results import ResultFile, Row
from benchmarks.card.runner import die_with_parent, run_in_this_process, run_step
from benchmarks.card.steps import limits, live, load, memory, parity, pressure, release, throughput, types
from benchmarks.card.summary import summarise
from benchmarks.report import argument_parser
from whisper_server.inference.hardware.cuda_diagnostics import find_problem

STEPS: Mapping[str, Callable[[Bench], Iterator[Row]]] = {
    "load": load.run,
    "parity": parity.run,
    "memory": memory.run,
    "limits": limits.run,
    "pressure": pressure.run,
    "release": release.run,
    "throughput": throughput.run,
    "live": live.run,
    "types": types.run,
}
# Makes the models and clips; runs before the others whenever some are missing.
MATERIAL = "material"
_QUESTIONS = {
    MATERIAL: "What was made on this machine?",
    **{name: (sys.modules[step.__module__].__doc__ or "").strip() for name, step in STEPS.items()},
}
_PACKAGED = ("tiny.en", "base")
_LIMIT = 570.0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"default: {' '.join(STEPS)}")
    parser.add_argument("--output", type=Path, default=Path("card.jsonl"), help="grows as figures are measured")
    parser.add_argument("--summary", type=Path, default=Path("card.md"))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "whisper-card"), help="for models")
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME", help="real weights: a name or directory"
    )
    parser.add_argument("--shapes", nargs="+", metavar="SHAPE", help="of random models; the last is the main one")
    parser.add_argument("--types", nargs="+", metavar="TYPE", help="compute types, the best first")
    parser.add_argument("--seconds", type=float, help="of each measurement that has no natural end")
    parser.add_argument("--gpu", default="", metavar="N", help="the GPU, if it is not the first")
    parser.add_argument("--limit", type=float, default=_LIMIT, help="seconds that a step may take")
    parser.add_argument("--again", action="store_true", help="repeat finished steps")
    parser.add_argument(
        "--dry", action="store_true", help="all steps on the CPU, with a tiny model and a few seconds each"
    )
    parser.add_argument("--in-process", choices=(*STEPS, MATERIAL), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if unknown := [step for step in arguments.steps if step not in STEPS]:
        parser.error(f"no step is called {unknown[0]}; there are {', '.join(STEPS)}")
    return arguments


def build_bench(arguments: argparse.Namespace) -> Bench:
    scale = DRY if arguments.dry else CARD
    scale = replace(
        scale,
        shapes=tuple(arguments.shapes or scale.shapes),
        types=tuple(arguments.types or scale.types),
        seconds=arguments.seconds or scale.seconds,
    )
    names = material.available([*(_PACKAGED[:1] if arguments.dry else _PACKAGED), *arguments.model])
    return Bench("cpu" if arguments.dry else "cuda", arguments.folder, scale, names)


def make_material(bench: Bench) -> Iterator[Row]:
    clips = material.make_clips(bench.folder)
    yield Row("clips of 5 to 11 s", {"files": len(clips)})
    for shape in bench.scale.shapes:
        directory = material.make_model(shape, bench.folder)
        yield Row(f"{shape}, random weights", {"MB": round((directory / "model.bin").stat().st_size / 1e6)})
    yield Row("real weights", {"names": ", ".join(model.name for model in bench.real_models) or "none"})


def run_all(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run the steps that are not finished; returns 1 if one of them failed."""
    environ, cublas = _environment(arguments)
    os.environ.update(environ)
    if not arguments.dry and (problem := _missing_gpu()):
        sys.exit(problem)
    results = ResultFile(arguments.output)
    results.describe(describe_machine("cpu" if arguments.dry else "cuda", cublas))
    command = [sys.executable, "-m", "benchmarks.card", *argv, "--in-process"]
    run = partial(
        run_step, results=results, log=arguments.output.with_suffix(".log"), limit=arguments.limit, environ=environ
    )
    states = []
    for step in (MATERIAL, *(arguments.steps or STEPS)):
        done = results.step(step)
        if step != MATERIAL and done is not None and done.state == "done" and not arguments.again:
            print(f"{step}: done before; --again repeats it", flush=True)
            continue
        print(f"{step}: {_QUESTIONS[step]}", flush=True)
        states.append(run(step, [*command, step]))
        arguments.summary.write_text(summarise(results, _QUESTIONS), encoding="utf-8")
        print(f"{step}: {states[-1]}", flush=True)
    arguments.summary.write_text(summarise(results, _QUESTIONS), encoding="utf-8")
    print(f"results: {arguments.output}, summary: {arguments.summary}")
    return int(any(state != "done" for state in states))


def _environment(arguments: argparse.Namespace) -> tuple[dict[str, str], str]:
    """Return the environment of all processes, and where their cuBLAS is."""
    cublas, directories = ("not needed", []) if arguments.dry else find_cublas(sys.path, arguments.folder / "cublas")
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if arguments.dry:
        environ["OMP_WAIT_POLICY"] = "passive"  # the CPU may have other work
    if arguments.gpu:
        environ["CUDA_VISIBLE_DEVICES"] = arguments.gpu
    return with_library_path(environ, directories), cublas


def _missing_gpu() -> str:
    """Return why there is no GPU to measure, or an empty string."""
    if ctranslate2.get_cuda_device_count():
        return ""
    problem = find_problem()
    return f"there is no GPU to measure: {problem.cause}; {problem.hint}. --dry tries everything on the CPU."


def main() -> None:
    argv = sys.argv[1:]
    arguments = parse_arguments(argv)
    if arguments.in_process is None:
        sys.exit(run_all(arguments, argv))
    die_with_parent()
    step = make_material if arguments.in_process == MATERIAL else STEPS[arguments.in_process]
    bench = build_bench(arguments)
    sys.exit(run_in_this_process(arguments.in_process, partial(step, bench), ResultFile(arguments.output)))


if __name__ == "__main__":
    main()
