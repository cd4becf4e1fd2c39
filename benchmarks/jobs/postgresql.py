"""A temporary PostgreSQL server, from the system's package."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.server_process import free_port

_DEBIAN_DIRECTORY = Path("/usr/lib/postgresql")


def programs() -> Path | None:
    """The directory of PostgreSQL's programs, or None if they are not installed or no user may run them."""
    initdb = sorted(_DEBIAN_DIRECTORY.glob("*/bin/initdb")) or [Path(p) for p in [shutil.which("initdb")] if p]
    return initdb[-1].parent if initdb and _user() is not None else None


@dataclass(frozen=True)
class PostgreSQL:
    """A server with its data below `folder`."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        self.run("pg_ctl", "-w", "-o", options, "start")

    def stop(self) -> None:
        """Stop at once, as in a crash."""
        self.run("pg_ctl", "-w", "-m", "immediate", "stop")

    def pids(self) -> list[int]:
        """The server's processes."""
        postmaster = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]

    def run(self, program: str, *arguments: str) -> None:
        directory, user = programs(), _user()
        assert directory is not None and user is not None, "PostgreSQL is not installed"
        user_id, group_id = (user.pw_uid, user.pw_gid) if os.getuid() == 0 else (None, None)
        subprocess.run(
            [str(directory / program), "-D", str(self.folder / "data"), *arguments],
            check=True,
            cwd=self.folder,
            user=user_id,
            group=group_id,
            extra_groups=None if user_id is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """Yield a server with an empty database."""
    user = _user()
    assert user is not None, "PostgreSQL is not installed"
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, user.pw_uid, user.pw_gid)
        postgresql = PostgreSQL(Path(folder), free_port())
        postgresql.run("initdb", "-A", "trust", "-U", "postgres")
        postgresql.start()
        try:
            yield postgresql
        finally:
            postgresql.stop()


def _user() -> pwd.struct_passwd | None:
    """The user who runs PostgreSQL, which refuses to run as root."""
    if os.getuid():
        return pwd.getpwuid(os.getuid())
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None
