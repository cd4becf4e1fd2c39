from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from inference.stand_in_hub import FILES, REPOSITORY, StandInHub, serving_hub, use_hub

from whisper_server.__main__ import main


@pytest.fixture
def served(tmp_path: Path) -> Iterator[StandInHub]:
    with serving_hub() as served, use_hub(served.url, tmp_path / "hub"):
        yield served


def test_a_repository_is_downloaded_once(
    served: StandInHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pull", REPOSITORY, "tiny.en"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{REPOSITORY}: {tmp_path / 'hub'}")
    assert second.startswith("tiny.en: ")
    served.requests.clear()
    assert main(["pull", REPOSITORY]) == 0
    assert served.requests == []


def test_a_model_in_models_dir_needs_no_download(
    served: StandInHub, tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").symlink_to(weights)
    assert main(["pull", "mine", "--models-dir", str(tmp_path / "models")]) == 0
    assert capsys.readouterr().out == f"mine: {tmp_path / 'models' / 'mine'}, 76 MB\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["smal"], 2, "→ use --model small"),
        (["stand-in/nothing"], 2, "has no repository 'stand-in/nothing'"),
        (["gpt-4o-transcribe"], 2, "→ use one of the known names: tiny.en"),
        ([], 2, "the following arguments are required: NAME"),
        (["tiny", "--ofline"], 2, "unknown argument --ofline"),
    ],
)
def test_what_cannot_be_pulled_is_an_error(
    served: StandInHub, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    assert main(["pull", *arguments]) == status
    assert message in capsys.readouterr().err


def test_a_hub_that_fails_is_an_error(served: StandInHub, capsys: pytest.CaptureFixture[str]) -> None:
    served.fail_downloads("model.bin", 403)
    assert main(["pull", REPOSITORY]) == 1
    assert "the Hugging Face hub did not deliver" in capsys.readouterr().err


def test_a_repository_without_a_tokenizer_is_an_error(served: StandInHub, capsys: pytest.CaptureFixture[str]) -> None:
    served.files = {name: body for name, body in FILES.items() if name != "tokenizer.json"}
    assert main(["pull", REPOSITORY]) == 1
    assert "is incomplete: it has no tokenizer.json" in capsys.readouterr().err


def test_offline_nothing_is_downloaded(
    served: StandInHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHISPER_SERVER_OFFLINE", "true")
    assert main(["pull", REPOSITORY]) == 2
    assert "without --offline" in capsys.readouterr().err
    assert served.requests == []
