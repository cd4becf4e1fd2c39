"""What the server tells Home Assistant about itself."""

from __future__ import annotations

from wyoming.info import AsrModel, AsrProgram, Attribution, Info

from whisper_server import __version__
from whisper_server.engine.model_admin import ModelAdmin, ModelInfo

_ENGINE = Attribution(name="faster-whisper", url="https://github.com/SYSTRAN/faster-whisper")
_MODELS = Attribution(name="OpenAI Whisper", url="https://github.com/openai/whisper")


def describe(models: ModelAdmin) -> Info:
    """Return the info event: the loaded models, the served one first, with the languages that they have."""
    program = AsrProgram(
        name="whisper-server",
        attribution=_ENGINE,
        installed=True,
        description="Speech-to-text with Whisper",
        version=__version__,
        models=[_model(models, model) for model in models.list() if not model.alias_of],
        supports_transcript_streaming=True,
    )
    return Info(asr=[program])


def _model(models: ModelAdmin, model: ModelInfo) -> AsrModel:
    return AsrModel(
        name=model.id,
        attribution=_MODELS,
        installed=True,
        description=model.id,
        version=None,
        languages=models.languages(model.id),
    )
