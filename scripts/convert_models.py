"""Convert Whisper checkpoints to models that whisper-server can load.

    pip install torch transformers
    python scripts/convert_models.py openai/whisper-large-v3 --quantization int8
    python scripts/convert_models.py turbo distil-large-v3 ~/my-fine-tuned-whisper
    python scripts/convert_models.py ~/.cache/whisper/medium.pt --quantization int8 --quantization float16
    python scripts/convert_models.py --requantize medium --quantization int8

A model is a Hugging Face repository id, a short name (large-v3 is openai/whisper-large-v3), a checkpoint directory or a
.pt file of openai-whisper; with --requantize, it is a CTranslate2 model by any name that the server accepts. Each model
is converted, tested on a spoken sentence and only then moved to NAME-QUANTIZATION in the server's models directory,
where whisper-server --model large-v3-int8 finds it. An existing model is kept unless --force is given. A run that is
killed leaves only a hidden directory. Exit codes: 0; 1 if a model failed (the others are still converted); 2 for wrong
arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from whisper_server.core.errors import WhisperServerError
from whisper_server.core.settings import COMPUTE_TYPES, Settings, cache_dir
from whisper_server.inference.models.catalogue import PACKAGES, REPOSITORIES
from whisper_server.inference.models.packages import PackagedModels
from whisper_server.inference.models.resolver import ModelResolver

ALIASES = {"large": "large-v3", "turbo": "large-v3-turbo"}
CHECKPOINTS = {"large-v1": "openai/whisper-large"}  # all others have the names that users know
QUANTIZATIONS = [name for name in COMPUTE_TYPES if name != "auto"]
TOKENIZER, PREPROCESSOR = "tokenizer.json", "preprocessor_config.json"
SENTENCE = Path(__file__).parents[1] / "tests" / "audio" / "short.flac"
# Text with a higher ratio is repetitive (openai-whisper's default of compression_ratio_threshold).
MAX_COMPRESSION_RATIO = 2.4

Convert = Callable[[str, Path, str], None]
Verify = Callable[[str, Path], None]


def find_source(model: str) -> tuple[str, str]:
    """Return the repository id, directory or file of a model, and its name. Raises ValueError if there is none."""
    path = Path(model).expanduser()
    if path.suffix == ".pt" and path.is_file():
        source, name = str(path), path.stem
    elif (path / "config.json").is_file():
        source, name = str(path), path.resolve().name
    elif model in REPOSITORIES:
        name = ALIASES.get(model, model)
        source = CHECKPOINTS.get(name, ("distil-whisper/" if name.startswith("distil-") else "openai/whisper-") + name)
    elif re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model, re.ASCII) and not path.is_dir() and path.suffix != ".pt":
        source, name = model, model.partition("/")[2].removeprefix("whisper-")
    else:
        raise ValueError(
            f"{model} is not a directory with a config.json, a .pt file, a repository id or one of {[*REPOSITORIES]}"
        )
    return source, _check_name(name)


def find_directory(model: str, models_dir: Path) -> tuple[str, str]:
    """Return the CTranslate2 directory that the server finds by this name, and the name without its quantization.

    Downloads the model if necessary. Raises ValueError if there is none.
    """
    packages = PackagedModels(PACKAGES, cache_dir=cache_dir() / "packages")
    try:
        directory = ModelResolver(models_dir=models_dir, packages=packages, offline=False).resolve(model)
    except WhisperServerError as exc:
        raise ValueError(str(exc)) from exc
    name = ALIASES.get(model, model) if model in REPOSITORIES else Path(model).expanduser().resolve().name
    types = "|".join(QUANTIZATIONS)
    return str(directory), _check_name(re.sub(rf"-({types})$", "", name.removeprefix("faster-whisper-")))


def _check_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(f"{name!r} cannot be the name of a model; rename the directory")
    return name


def convert(source: str, directory: Path, quantization: str) -> None:
    """Convert a checkpoint to a new directory with all files that the server reads."""
    if source.endswith(".pt"):
        return convert_openai(source, directory, quantization)
    if (Path(source) / "model.bin").is_file():
        from ct2_directories import DirectoryConverter

        DirectoryConverter(Path(source)).convert(str(directory), quantization=quantization)
    else:
        convert_transformers(source, directory, quantization)


def packages_for(sources: Iterable[str]) -> list[str]:
    """The packages that these conversions need in addition to those of the server."""
    kinds = {".pt" if source.endswith(".pt") else (Path(source) / "model.bin").is_file() for source in sources}
    return ["torch"] * bool(kinds - {True}) + ["transformers"] * (False in kinds)


def convert_openai(source: str, directory: Path, quantization: str) -> None:
    """Convert a .pt file. It has no tokenizer, but a model in the models directory may have the same one."""
    from openai_checkpoints import Checkpoint, OpenAIConverter
    from tokenizer_files import find_tokenizer

    checkpoint = Checkpoint.read(Path(source))
    tokenizer = find_tokenizer(checkpoint.dims["n_vocab"], directory.parents[1])
    OpenAIConverter(checkpoint, tokenizer).convert(str(directory), quantization=quantization)


def convert_transformers(source: str, directory: Path, quantization: str) -> None:
    import transformers  # takes seconds
    from ctranslate2.converters import TransformersConverter
    from transformers.utils import has_file

    present = [name for name in (TOKENIZER, PREPROCESSOR) if has_file(source, name)]
    TransformersConverter(source, copy_files=present).convert(str(directory), quantization=quantization)
    if TOKENIZER not in present:
        tokenizer = transformers.WhisperTokenizerFast.from_pretrained(source)
        tokenizer.backend_tokenizer.save(str(directory / TOKENIZER))
    if PREPROCESSOR not in present:
        mels = transformers.WhisperConfig.from_pretrained(source).num_mel_bins
        transformers.WhisperFeatureExtractor(feature_size=mels).to_json_file(directory / PREPROCESSOR)
    add_languages(directory)


def add_languages(directory: Path) -> None:
    """Add the language tokens, which language detection needs, to config.json.

    CTranslate2 finds them in a generation configuration with `lang_to_id`, but not in a tokenizer of Transformers 5.
    """
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    tokens = json.loads((directory / "vocabulary.json").read_text(encoding="utf-8"))
    if "<|startoftranscript|>" not in tokens:
        raise ValueError("the tokenizer has no special tokens of Whisper; is added_tokens.json missing?")
    if not config["lang_ids"]:
        config["lang_ids"] = [*range(tokens.index("<|startoftranscript|>") + 1, tokens.index("<|translate|>"))]
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def verify(name: str, directory: Path) -> None:
    """Load the model as the server does on a CPU and transcribe a sentence.

    Raises ModelLoadFailed, or ValueError if the text is empty or repetitive.
    """
    from whisper_server.inference.hardware.autotune import Tuner
    from whisper_server.inference.hardware.device import Device
    from whisper_server.inference.hardware.worker_plan import WorkerConfig
    from whisper_server.inference.models.loader import ModelLoader

    device = Device("cpu")
    tuner = Tuner(device, device.compute_types("auto")[0], WorkerConfig(1, 0, 1), cache=Path(os.devnull), measure=False)
    model = ModelLoader(tuner).load(name, directory)
    try:
        segments = [*model.whisper.transcribe(str(SENTENCE), beam_size=1, temperature=0.0)[0]]
    finally:
        model.close()
    text = "".join(segment.text for segment in segments).strip()
    print(f"{name}: transcribed {text!r}", flush=True)
    if not text or max(segment.compression_ratio for segment in segments) > MAX_COMPRESSION_RATIO:
        raise ValueError(f"the model does not transcribe the English sentence in {SENTENCE.name}")


def make(source: str, target: Path, quantization: str, force: bool, convert: Convert, verify: Verify) -> None:
    """Convert into a temporary directory beside the target, verify the model, and move it to the target."""
    if os.path.lexists(target) and not force:
        raise FileExistsError(f"{target} exists; --force replaces it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        new = Path(scratch) / "new"
        print(f"{target.name}: converting {source}", flush=True)
        convert(source, new, quantization)
        print(f"{target.name}: verifying", flush=True)
        verify(target.name, new)
        size = sum(file.stat().st_size for file in new.iterdir())
        if force and os.path.lexists(target):
            target.rename(Path(scratch) / "old")
        new.rename(target)
    print(f"{target.name}: {size / 1e6:.0f} MB in {target}", flush=True)


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict[Path, tuple[str, str]]]:
    """Return the arguments and, for each directory to create, its source and quantization."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="repository id, short name, directory or .pt file")
    types = ", ".join(QUANTIZATIONS)
    parser.add_argument(
        "--quantization",
        choices=QUANTIZATIONS,
        action="append",
        metavar="TYPE",
        help=f"{types}; may be given several times; default: float16",
    )
    parser.add_argument("--requantize", action="store_true", help="quantize models of CTranslate2's format")
    parser.add_argument("--models-dir", type=Path, metavar="DIR", help="default: the server's models directory")
    parser.add_argument("--force", action="store_true", help="replace models that exist")
    arguments = parser.parse_args(argv)
    jobs: dict[Path, tuple[str, str]] = {}
    try:
        models_dir = (arguments.models_dir or Settings.load([], os.environ).models_dir).expanduser().absolute()
        for model in arguments.models:
            source, name = find_directory(model, models_dir) if arguments.requantize else find_source(model)
            for quantization in arguments.quantization or ["float16"]:
                target = models_dir / f"{name}-{quantization}"
                if jobs.setdefault(target, (source, quantization))[0] != source:
                    raise ValueError(f"{jobs[target][0]} and {source} would both become {target.name}")
    except ValueError as exc:
        parser.error(str(exc))
    return arguments, jobs


def main(
    argv: Sequence[str],
    convert: Convert = convert,
    verify: Verify = verify,
    extra: Sequence[str] | None = None,
) -> int:
    arguments, jobs = parse(argv)
    needed = packages_for(source for source, _ in jobs.values()) if extra is None else extra
    if missing := [package for package in needed if find_spec(package) is None]:
        print(f"not installed: {', '.join(missing)}; pip install torch transformers", file=sys.stderr)
        return 1
    status = 0
    for target, (source, quantization) in jobs.items():
        try:
            make(source, target, quantization, arguments.force, convert, verify)
        except Exception as exc:  # torch, Transformers and the hub raise many unrelated exceptions
            print(f"{target.name}: failed:", *str(exc).split(), f"({type(exc).__name__})", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # an exit removes the temporary directory
    sys.exit(main(sys.argv[1:]))
