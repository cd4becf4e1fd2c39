"""Convert Whisper checkpoints of Hugging Face Transformers to models that whisper-server can load.

    pip install 'whisper-server[conversion]'
    python scripts/convert_models.py openai/whisper-large-v3 --quantization int8
    python scripts/convert_models.py turbo distil-large-v3 ~/my-fine-tuned-whisper

A model is a Hugging Face repository id, a known short name (large-v3 is openai/whisper-large-v3) or a local
checkpoint directory. Each is written to NAME-QUANTIZATION in the server's models directory, tried on one window of
silence and only then put in place: whisper-server --model large-v3-int8 finds it. An existing model stays unless
--force is given. Exit code: 0, 1 if a model failed (the others are still converted), 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from whisper_server.inference.catalogue import REPOSITORIES
from whisper_server.settings import COMPUTE_TYPES, Settings

ALIASES = {"large": "large-v3", "turbo": "large-v3-turbo"}
CHECKPOINTS = {"large-v1": "openai/whisper-large"}  # the others have the name that they are known by
QUANTIZATIONS = [name for name in COMPUTE_TYPES if name != "auto"]
EXTRA = ("torch", "transformers")
TOKENIZER, PREPROCESSOR = "tokenizer.json", "preprocessor_config.json"

Convert = Callable[[str, Path, str], None]
Verify = Callable[[str, Path], None]


def find_source(model: str) -> tuple[str, str]:
    """Return the repository id or directory that the user means and the model's name; raises ValueError."""
    directory = Path(model).expanduser()
    if (directory / "config.json").is_file():
        source, name = str(directory), directory.resolve().name
    elif model in REPOSITORIES:
        name = ALIASES.get(model, model)
        source = CHECKPOINTS.get(name, ("distil-whisper/" if name.startswith("distil-") else "openai/whisper-") + name)
    elif re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model, re.ASCII) and not directory.is_dir():
        source, name = model, model.partition("/")[2].removeprefix("whisper-")
    else:
        raise ValueError(f"{model} is no directory with a config.json, no repository id, none of {[*REPOSITORIES]}")
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(f"{name!r} cannot be a model's name; rename the directory")
    return source, name


def convert(source: str, directory: Path, quantization: str) -> None:
    """Write the CTranslate2 model of a checkpoint, with all the files that the server reads, to a new directory."""
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
    """List the language tokens, without which no language is detected: CTranslate2 finds them in a generation
    configuration with `lang_to_id`, but not, with Transformers 5, in a tokenizer."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    tokens = json.loads((directory / "vocabulary.json").read_text(encoding="utf-8"))
    if "<|startoftranscript|>" not in tokens:
        raise ValueError("the tokenizer has none of Whisper's special tokens; is added_tokens.json missing?")
    if not config["lang_ids"]:
        config["lang_ids"] = [*range(tokens.index("<|startoftranscript|>") + 1, tokens.index("<|translate|>"))]
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def verify(name: str, directory: Path) -> None:
    """Load the model as the server does on a CPU and transcribe silence; raises ModelLoadFailed."""
    from whisper_server.inference.devices import Device
    from whisper_server.inference.models import ModelLoader
    from whisper_server.inference.tuning import Tuner
    from whisper_server.inference.workers import Wanted

    device = Device("cpu")
    tuner = Tuner(device, device.compute_type("auto"), Wanted(count=1), cache=Path(os.devnull), measure=False)
    ModelLoader(tuner).load(name, directory)


def make(source: str, target: Path, arguments: argparse.Namespace, convert: Convert, verify: Verify) -> None:
    """Convert into a scratch directory beside the target and move the model there when it has been verified."""
    if os.path.lexists(target) and not arguments.force:
        raise FileExistsError(f"{target} exists; --force replaces it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        made = Path(scratch) / "new"
        print(f"{target.name}: converting {source}", flush=True)
        convert(source, made, arguments.quantization)
        print(f"{target.name}: verifying", flush=True)
        verify(target.name, made)
        size = sum(file.stat().st_size for file in made.iterdir())
        if arguments.force and os.path.lexists(target):
            target.rename(Path(scratch) / "old")
        made.rename(target)
    print(f"{target.name}: {size / 1e6:.0f} MB in {target}", flush=True)


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict[Path, str]]:
    """Return the arguments and, for each directory to make, its source."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="repository id, short name or checkpoint directory")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="float16", help="default: %(default)s")
    parser.add_argument("--models-dir", type=Path, metavar="DIR", help="default: the server's")
    parser.add_argument("--force", action="store_true", help="replace models that exist")
    arguments = parser.parse_args(argv)
    jobs: dict[Path, str] = {}
    try:
        models_dir = (arguments.models_dir or Settings.load([], os.environ).models_dir).expanduser().absolute()
        for source, name in map(find_source, arguments.models):
            target = models_dir / f"{name}-{arguments.quantization}"
            if jobs.setdefault(target, source) != source:
                raise ValueError(f"{jobs[target]} and {source} would both become {target.name}")
    except ValueError as exc:
        parser.error(str(exc))
    return arguments, jobs


def main(argv: Sequence[str], convert: Convert = convert, verify: Verify = verify, extra: Sequence[str] = EXTRA) -> int:
    arguments, jobs = parse(argv)
    if missing := [package for package in extra if find_spec(package) is None]:
        print(f"not installed: {', '.join(missing)}; pip install 'whisper-server[conversion]'", file=sys.stderr)
        return 1
    status = 0
    for target, source in jobs.items():
        try:
            make(source, target, arguments, convert, verify)
        except Exception as exc:  # torch, Transformers and the hub raise all sorts
            print(f"{target.name}: failed:", *str(exc).split(), f"({type(exc).__name__})", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # an exit removes the scratch
    sys.exit(main(sys.argv[1:]))
