from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from whisper_server.cli.server.listeners import bind_tcp, wyoming_address, wyoming_socket
from whisper_server.core.errors import AddressUnavailable


def test_a_free_port_is_chosen() -> None:
    with wyoming_socket("tcp://127.0.0.1:0") as sock:
        assert wyoming_address(sock) == f"tcp://127.0.0.1:{sock.getsockname()[1]}"


def test_an_ipv6_address_is_in_brackets() -> None:
    try:
        with wyoming_socket("tcp://[::1]:0") as sock:
            assert wyoming_address(sock) == f"tcp://[::1]:{sock.getsockname()[1]}"
    except AddressUnavailable:
        pytest.skip("needs IPv6")


def test_a_taken_port_is_an_error_with_the_right_hint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(AddressUnavailable, match="in use.*--wyoming"), wyoming_socket(f"tcp://127.0.0.1:{port}"):
            pass
        with pytest.raises(AddressUnavailable, match="in use.*--port"):
            bind_tcp("127.0.0.1", port)


def test_a_foreign_address_is_an_error() -> None:
    with (
        pytest.raises(AddressUnavailable, match="192.0.2.1 port 10300.*--wyoming"),
        wyoming_socket("tcp://192.0.2.1:10300"),
    ):
        pass


def test_a_unix_socket_is_for_the_group_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "whisper.sock"
    with wyoming_socket(f"unix://{path}") as sock:
        assert wyoming_address(sock) == f"unix://{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


def test_the_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "whisper.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with wyoming_socket(f"unix://{path}") as sock:
        sock.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_the_socket_of_a_running_server_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "whisper.sock"
    with wyoming_socket(f"unix://{path}") as sock:
        sock.listen()
        with pytest.raises(AddressUnavailable, match="in use"), wyoming_socket(f"unix://{path}"):
            pass
        assert path.exists()


def test_the_socket_of_a_later_server_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "whisper.sock"
    with socket.socket(socket.AF_UNIX) as later:
        with wyoming_socket(f"unix://{path}"):
            path.rename(tmp_path / "former.sock")
            later.bind(str(path))
        assert path.exists()


@pytest.mark.parametrize("name", ["file", "missing/whisper.sock", "x" * 200])
def test_other_files_and_impossible_paths_are_errors(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("precious")
    with (
        pytest.raises(AddressUnavailable, match="cannot listen on .*--wyoming"),
        wyoming_socket(f"unix://{tmp_path / name}"),
    ):
        pass
    assert (tmp_path / "file").read_text() == "precious"
    assert os.listdir(tmp_path) == ["file"]
