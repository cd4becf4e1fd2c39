from __future__ import annotations

from pathlib import Path

import pytest
from inference.stand_in_hub import use_hub

from whisper_server.__main__ import main


def test_the_models_on_this_machine_are_listed(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").symlink_to(weights)
    with use_hub("http://127.0.0.1:9", tmp_path / "hub"):
        assert main(["models", "--device", "cpu", "--models-dir", str(tmp_path / "models")]) == 0
        title, mine, *others = capsys.readouterr().out.splitlines()
        assert main(["models", "--device", "cpu", "--all"]) == 0
    assert title.split() == ["NAME", "WHERE", "SIZE", "MEMORY"]
    assert " ".join(mine.split()) == "mine --models-dir 78 MB 0.3 GB in int8, 0.4 GB in float32"
    assert [line.split()[0] for line in others] == ["tiny.en", "base"]
    assert "large-v3                  can be pulled        3090 MB" in capsys.readouterr().out


def test_a_wrong_option_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--device", "tpu"]) == 2
    assert "--device: 'tpu' is not allowed" in capsys.readouterr().err
