"""A temporary PostgreSQL server, from the system's package."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.server_process import free_port

_DEBIAN_DIRECTORY = Path("/usr/lib/postgresql")


def programs() -> Path | None:
    """The directory of PostgreSQL's programs, or None if they are not installed or no user may run them."""
    initdb = sorted(_DEBIAN_DIRECTORY.glob("*/bin/initdb")) or [Path(p) for p in [shutil.which("initdb")] if p]
    return initdb[-1].parent if initdb and _user() is not None else None


@contextmanager
def running_postgresql() -> Iterator[str]:
    """Yield the URL of an empty database."""
    directory, user = programs(), _user()
    assert directory is not None and user is not None, "PostgreSQL is not installed"
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, user.pw_uid, user.pw_gid)
        data, port = f"{folder}/data", free_port()
        user_id, group_id = (user.pw_uid, user.pw_gid) if os.getuid() == 0 else (None, None)

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [str(directory / program), "-D", data, *arguments],
                check=True,
                cwd=folder,
                user=user_id,
                group=group_id,
                extra_groups=None if user_id is None else [],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

        run("initdb", "-A", "trust", "-U", "postgres")
        run("pg_ctl", "-w", "-o", f"-p {port} -k {folder} -c listen_addresses=127.0.0.1", "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


def _user() -> pwd.struct_passwd | None:
    """The user who runs PostgreSQL, which refuses to run as root."""
    if os.getuid():
        return pwd.getpwuid(os.getuid())
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None
