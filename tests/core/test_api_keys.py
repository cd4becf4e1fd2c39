from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from whisper_server.__main__ import main
from whisper_server.core.api_keys import Keyring, make
from whisper_server.core.settings import Settings, SettingsError

SECRET = "a-secret-of-the-tests"


def keyring(file: Path, text: str) -> Keyring:
    file.write_text(text)
    return Keyring.load(Settings(api_key_file=file))


def test_keys_are_random_and_name_their_holder(tmp_path: Path) -> None:
    (laptop, secret), (_, other) = make("laptop"), make("laptop")
    assert len(secret) >= 43 and secret != other
    assert re.fullmatch(r"[A-Za-z0-9._-]+", secret), "it has to fit into a WebSocket's subprotocol"
    keys = keyring(tmp_path / "keys", f"# who is who\n\n{laptop.line}\n")
    found = keys.find(secret)
    assert found is not None and found.name == "laptop"
    assert keys.find(other) is keys.find("") is keys.find("schlüssel\udcff") is None


def test_keys_of_the_settings_have_names(tmp_path: Path) -> None:
    keys = Keyring.load(Settings(api_key=(SECRET, SECRET + "2")))
    assert [key.name for key in map(keys.find, (SECRET, SECRET + "2")) if key] == ["api-key-1", "api-key-2"]


def test_no_keys_are_no_keyring() -> None:
    assert not Keyring.load(Settings())
    assert Keyring([make("a")[0]])


def test_no_secret_is_shown(tmp_path: Path) -> None:
    key, secret = make("laptop")
    settings = Settings(api_key=(secret,))
    assert secret not in repr(settings)
    assert "digest" not in repr(key) and secret not in key.line


@pytest.mark.parametrize("line", [SECRET, "laptop", "a b sha256:" + "0" * 64, "a sha256:00", "ä sha256:" + "0" * 64])
def test_a_wrong_line_is_an_error_that_does_not_show_it(tmp_path: Path, line: str) -> None:
    with pytest.raises(SettingsError, match="line 2 of .*keys is not NAME sha256:DIGEST") as caught:
        keyring(tmp_path / "keys", f"# mine\n{line}\n")
    assert line not in str(caught.value).replace("sha256", "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(api_key_file=Path("/nowhere/keys")), "cannot read the keys in /nowhere/keys: No such file"),
        (Settings(api_key_file=Path(os.devnull)), "there is no key in"),
        (Settings(api_key=(SECRET,), auth=False), "--no-auth is for a server without keys"),
        (Settings(key_rate="1/minute"), "--key-rate are for a server with keys"),
        (Settings(key_concurrency=1), "--key-rate are for a server with keys"),
        (Settings(key_sessions=1), "--key-rate are for a server with keys"),
    ],
)
def test_settings_that_contradict_each_other_are_errors(settings: Settings, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Keyring.load(settings)


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot read the keys"):
        Keyring.load(Settings(api_key_file=tmp_path / "keys"))


def test_the_command_prints_a_key_and_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "laptop"]) == 0
    secret, _, line = capsys.readouterr().out.splitlines()
    assert keyring(tmp_path / "keys", line).find(secret)


def test_the_command_appends_to_a_file_that_only_its_owner_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    assert main(["key", "laptop", "--file", str(file)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(file.read_text().rstrip("\n"))
    assert main(["key", "phone", "--file", str(file)]) == 0
    secrets = capsys.readouterr().out.split()
    keys = Keyring.load(Settings(api_key_file=file))
    assert [key.name for key in map(keys.find, secrets) if key] == ["laptop", "phone"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["key"], "name"),
        (["key", "two words"], "'two words' is not a name"),
        (["key", "laptop", "--file", "/nowhere/keys"], "cannot write /nowhere/keys: No such file"),
        (["key", "laptop", "--nope"], "--nope"),
    ],
)
def test_the_command_says_what_is_wrong(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert said in shown.err and len(shown.err.splitlines()) == 1 and not shown.out


def test_a_name_is_used_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["key", "laptop", "--file", str(tmp_path / "keys")]
    assert (main(argv), main(argv)) == (0, 2)
    assert "has a key of the name 'laptop' already" in capsys.readouterr().err
