from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from whisper_server.core.api_keys import Keyring, create_key
from whisper_server.core.errors import SettingsError
from whisper_server.core.settings import Settings

SECRET = "a-secret-of-the-tests"


def keyring(file: Path, text: str) -> Keyring:
    file.write_text(text)
    return Keyring.load(Settings(api_key_file=file))


def test_keys_are_random_and_have_names(tmp_path: Path) -> None:
    (laptop, secret), (_, other) = create_key("laptop"), create_key("laptop")
    assert len(secret) >= 43 and secret != other
    assert re.fullmatch(r"[A-Za-z0-9._-]+", secret), "it must be valid in a WebSocket subprotocol"
    keys = keyring(tmp_path / "keys", f"# a comment\n\n{laptop.line}\n")
    key = keys.find(secret)
    assert key is not None and key.name == "laptop"
    assert keys.find(other) is keys.find("") is keys.find("schlüssel\udcff") is None


def test_the_name_of_a_key_in_the_settings_does_not_depend_on_the_other_keys() -> None:
    def name(secret: str, *secrets: str) -> str:
        key = Keyring.load(Settings(api_key=secrets)).find(secret)
        assert key is not None
        return key.name

    first, second = SECRET, SECRET + "2"
    assert name(second, first, second) == name(second, second) != name(first, first, second)
    assert re.fullmatch("api-key:[0-9a-f]{12}", name(first, first)), "no key in a file can have this name"


def test_a_key_has_a_scope(tmp_path: Path) -> None:
    (phone, phone_secret), (laptop, laptop_secret) = create_key("phone", "use"), create_key("laptop")
    keys = keyring(tmp_path / "keys", f"{phone.line}\n{laptop.line}\nold sha256:{'0' * 64} admin\n")
    assert phone.line.endswith(" use") and laptop.line.count(" ") == 1
    assert [keys.find(secret) for secret in (phone_secret, laptop_secret)] == [phone, laptop]
    with pytest.raises(SettingsError, match="line 1"):
        keyring(tmp_path / "keys", f"{laptop.line} root\n")


def test_a_keyring_without_keys_is_false() -> None:
    assert not Keyring.load(Settings())
    assert Keyring([create_key("a")[0]])


def test_no_secret_is_shown(tmp_path: Path) -> None:
    key, secret = create_key("laptop")
    settings = Settings(api_key=(secret,))
    assert secret not in repr(settings)
    assert "digest" not in repr(key) and secret not in key.line


@pytest.mark.parametrize("line", [SECRET, "laptop", "a b sha256:" + "0" * 64, "a sha256:00", "ä sha256:" + "0" * 64])
def test_the_error_for_a_malformed_line_does_not_show_the_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(SettingsError, match="line 2 of .*keys is not NAME sha256:DIGEST") as caught:
        keyring(tmp_path / "keys", f"# mine\n{line}\n")
    assert line not in str(caught.value).replace("sha256", "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(api_key_file=Path("/nowhere/keys")), "cannot read the keys in /nowhere/keys: No such file"),
        (Settings(api_key_file=Path(os.devnull)), "there is no key in"),
        (Settings(api_key=(SECRET,), auth=False), "--no-auth is for a server without keys"),
        (Settings(key_rate="1/minute"), "--key-rate are for a server with keys"),
        (Settings(key_concurrency=1), "--key-rate are for a server with keys"),
        (Settings(key_sessions=1), "--key-rate are for a server with keys"),
    ],
)
def test_contradictory_settings_are_errors(settings: Settings, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Keyring.load(settings)


def test_a_binary_key_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot read the keys"):
        Keyring.load(Settings(api_key_file=tmp_path / "keys"))
