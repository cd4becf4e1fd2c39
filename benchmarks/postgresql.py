"""A PostgreSQL of one's own, from the system's package, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDERS = Path("/usr/lib/postgresql")


def programs() -> Path | None:
    """Where PostgreSQL's programs are, if they are installed and may be run."""
    found = sorted(_FOLDERS.glob("*/bin/initdb")) or [Path(path) for path in [shutil.which("initdb")] if path]
    return found[-1].parent if found and _user() is not None else None


@contextmanager
def running_postgresql() -> Iterator[str]:
    """Yield the address of an empty database."""
    folder, user = programs(), _user()
    assert folder is not None and user is not None, "PostgreSQL is not installed"
    with tempfile.TemporaryDirectory() as place:
        os.chown(place, user.pw_uid, user.pw_gid)
        data, port = f"{place}/data", _free_port()

        def run(program: str, *arguments: str) -> None:
            command = [str(folder / program), "-D", data, *arguments]
            who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(command, check=True, cwd=place, **quiet, **who)  # type: ignore[call-overload]

        run("initdb", "-A", "trust", "-U", "postgres")
        options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1"
        run("pg_ctl", "-w", "-o", options, "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


def _user() -> pwd.struct_passwd | None:
    """Whose processes they are: PostgreSQL does not run as root."""
    if os.getuid():
        return pwd.getpwuid(os.getuid())
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
