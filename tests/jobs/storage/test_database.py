from __future__ import annotations

import io
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from whisper_server.core.errors import JobsUnavailable
from whisper_server.core.settings import SettingsError
from whisper_server.jobs.job import NewJob
from whisper_server.jobs.storage import schema
from whisper_server.jobs.storage.database import Database
from whisper_server.jobs.storage.job_store import JobStore


def test_a_newer_database_is_refused(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(schema.versions).values(version=99))
    with pytest.raises(JobsUnavailable, match="version 99"):
        database.migrate()


def test_an_older_database_is_migrated(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (("ALTER TABLE whisper_jobs ADD COLUMN colour TEXT",),))
    monkeypatch.setattr(schema, "VERSION", 2)
    database.migrate()
    database.migrate()
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT colour FROM whisper_jobs").all() == []
        assert connection.execute(select(schema.versions.c.version)).scalar_one() == 2


def test_a_failed_transaction_is_rolled_back(store: JobStore) -> None:
    new_job = NewJob(file_name="a", model="base")
    with pytest.raises(IntegrityError):
        store.add("", [new_job, new_job], [("same", 1), ("same", 1)])
    assert store.page(None) == ([], False)


def test_a_damaged_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(io.BytesIO(b"damaged " * 1000).getvalue())
    with pytest.raises(JobsUnavailable, match="not a database"):
        Database(f"sqlite:///{tmp_path}/jobs.sqlite").migrate()


def test_the_error_of_an_unreachable_database_hides_its_address() -> None:
    with pytest.raises(JobsUnavailable) as caught:
        Database("postgresql://me:secret@127.0.0.1:9/jobs").migrate()
    assert "127.0.0.1" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://me@host/jobs", "nothing"])
def test_unsupported_database_urls_are_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="--database-url"):
        Database(url)
