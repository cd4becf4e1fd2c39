from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs.storage.stored_jobs import EXPIRING, STORAGE

from benchmarks.jobs.postgresql import programs, running_postgresql
from whisper_server.jobs.storage import schema
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.job_store import JobStore
from whisper_server.jobs.storage.leases import Leases

NEEDS_POSTGRESQL = pytest.mark.skipif(programs() is None, reason="needs PostgreSQL")


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    with running_postgresql() as postgresql:
        yield postgresql.url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=NEEDS_POSTGRESQL)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database: SQLite, and PostgreSQL if it is installed."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path}/jobs.sqlite")
    else:
        database = Database(request.getfixturevalue("postgresql_url"))
        with database.write() as connection:
            schema.metadata.drop_all(connection)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> JobStore:
    return JobStore(database, STORAGE, EXPIRING)


@pytest.fixture
def leases(database: Database) -> Leases:
    return Leases(database, STORAGE, "me", EXPIRING)
