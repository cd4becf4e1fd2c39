from __future__ import annotations

import re
from pathlib import Path

import pytest

from whisper_server.__main__ import main
from whisper_server.core.api_keys import Keyring
from whisper_server.core.settings import Settings


def test_prints_a_key_and_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "laptop"]) == 0
    secret, _, line = capsys.readouterr().out.splitlines()
    (tmp_path / "keys").write_text(line)
    assert Keyring.load(Settings(api_key_file=tmp_path / "keys")).find(secret)


def test_appends_to_a_file_that_only_its_owner_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys"
    assert main(["key", "laptop", "--file", str(file)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(file.read_text().rstrip("\n"))
    assert main(["key", "phone", "--file", str(file)]) == 0
    secrets = capsys.readouterr().out.split()
    keys = Keyring.load(Settings(api_key_file=file))
    assert [key.name for key in map(keys.find, secrets) if key] == ["laptop", "phone"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["key"], "name"),
        (["key", "two words"], "'two words' is not a name"),
        (["key", "laptop", "--file", "/nowhere/keys"], "cannot write /nowhere/keys: No such file"),
        (["key", "laptop", "--xyz"], "unknown argument --xyz\n  → run whisper-server key --help"),
        (["key", "laptop", "--scope", "root"], "--scope: invalid choice: 'root'"),
    ],
)
def test_an_error_is_one_line_and_a_hint(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert message in shown.err and not shown.out
    assert [line[:4] for line in shown.err.splitlines()[1:]] in ([], ["  → "])


def test_a_name_can_be_used_only_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["key", "laptop", "--file", str(tmp_path / "keys")]
    assert (main(argv), main(argv)) == (0, 2)
    assert "already has a key named 'laptop'" in capsys.readouterr().err


def test_a_key_can_have_a_smaller_scope(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "phone", "--scope", "use"]) == 0
    assert re.fullmatch("phone sha256:[0-9a-f]{64} use", capsys.readouterr().out.splitlines()[-1])
