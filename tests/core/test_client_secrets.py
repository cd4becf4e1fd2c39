from __future__ import annotations

import pytest

from whisper_server.core.client_secrets import ClientSecrets


class Clock:
    time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_a_client_secret_returns_its_content_until_it_expires() -> None:
    clock = Clock()
    client_secrets = ClientSecrets(b"secret", now=clock)
    value, expires_at = client_secrets.make("laptop", {"prompt": "Käse"}, seconds=60)
    content = client_secrets.find(value)
    assert content is not None
    assert (content.key, content.session, content.expires_at, expires_at) == ("laptop", {"prompt": "Käse"}, 1060, 1060)
    clock.time = 1060.0
    assert client_secrets.find(value) is None


def test_a_client_secret_of_another_server_is_invalid() -> None:
    value, _ = ClientSecrets(b"another").make(None, {}, seconds=60)
    assert ClientSecrets(b"secret").find(value) is None


@pytest.mark.parametrize("malformed", ["", "ek_", "ek_.", "ek_a.b", "wsk-x", "ek_ä.ö", "ek_" + "a" * 50_000])
def test_a_malformed_client_secret_is_invalid(malformed: str) -> None:
    assert ClientSecrets(b"secret").find(malformed) is None


def test_a_changed_client_secret_is_invalid() -> None:
    client_secrets = ClientSecrets(b"secret")
    value, _ = client_secrets.make("laptop", {}, seconds=60)
    for index in range(3, len(value), 7):
        changed = value[:index] + ("A" if value[index] != "A" else "B") + value[index + 1 :]
        assert client_secrets.find(changed) is None or changed == value
