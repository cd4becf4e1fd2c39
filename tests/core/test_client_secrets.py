from __future__ import annotations

import pytest

from whisper_server.core.client_secrets import ClientSecrets


class Clock:
    time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_a_pass_says_what_it_was_made_for_until_it_ends() -> None:
    clock = Clock()
    client_secrets = ClientSecrets(b"secret", now=clock)
    value, expires_at = client_secrets.make("laptop", {"prompt": "Käse"}, seconds=60)
    found = client_secrets.find(value)
    assert found is not None
    assert (found.key, found.session, found.expires_at, expires_at) == ("laptop", {"prompt": "Käse"}, 1060, 1060)
    clock.time = 1060.0
    assert client_secrets.find(value) is None


def test_another_servers_pass_is_none_of_ours() -> None:
    value, _ = ClientSecrets(b"another").make(None, {}, seconds=60)
    assert ClientSecrets(b"secret").find(value) is None


@pytest.mark.parametrize("wrong", ["", "ek_", "ek_.", "ek_a.b", "wsk-x", "ek_ä.ö", "ek_" + "a" * 50_000])
def test_what_is_no_pass(wrong: str) -> None:
    assert ClientSecrets(b"secret").find(wrong) is None


def test_a_pass_cannot_be_changed() -> None:
    client_secrets = ClientSecrets(b"secret")
    value, _ = client_secrets.make("laptop", {}, seconds=60)
    for at in range(3, len(value), 7):
        changed = value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :]
        assert client_secrets.find(changed) is None or changed == value
