from __future__ import annotations

import pytest

from whisper_server.bootstrap import load_models
from whisper_server.core.errors import ModelNotFound
from whisper_server.core.settings import Settings
from whisper_server.engine.model_admin import ModelAdmin
from whisper_server.inference.models.manager import ModelManager


def test_a_loaded_model_has_its_languages(models: ModelManager) -> None:
    admin = ModelAdmin(models)
    assert admin.languages("tiny.en") == admin.languages("whisper-1") == ["en"]
    with pytest.raises(ModelNotFound):
        admin.languages("base")


@pytest.mark.parametrize(("model", "number"), [("tiny.en", 1), ("base", 100)])
def test_a_model_that_is_not_loaded_yet_has_the_languages_of_its_name(model: str, number: int) -> None:
    models = load_models(Settings(model=model, device="cpu", offline=True, lazy_load=True))
    assert len(ModelAdmin(models).languages(model)) == number
    models.close()
