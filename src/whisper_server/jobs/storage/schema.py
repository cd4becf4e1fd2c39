"""The tables of jobs and their migrations.

To change a table, change it here, and add the statements that migrate the previous version to MIGRATIONS.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite autoincrements only columns of the type INTEGER.
_NUMBER = BigInteger().with_variant(Integer(), "sqlite")

versions = Table("whisper_schema", metadata, Column("version", Integer, nullable=False))

jobs = Table(
    "whisper_jobs",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("owner", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("started_at", Float(53)),
    Column("finished_at", Float(53)),
    Column("expires_at", Float(53), index=True),
    Column("file_name", Text, nullable=False),
    Column("file_bytes", BigInteger),
    Column("url", Text, nullable=False),
    Column("keep_audio", Boolean, nullable=False),
    # The name of the storage that has its audio; only servers that share it can run the job.
    Column("storage", String(64), nullable=False),
    Column("model", Text, nullable=False),
    Column("task", String(16), nullable=False),
    Column("response_format", String(32), nullable=False),
    Column("fields", Text, nullable=False),
    Column("decoding", Text, nullable=False),
    Column("handling", Text, nullable=False),
    Column("audio_seconds", Float(53)),
    Column("seconds_done", Float(53), nullable=False),
    Column("segments", Integer, nullable=False),
    Column("speed", Float(53)),
    Column("progress_at", Float(53)),
    Column("language", String(16)),
    # Restarts by other servers or a restarted one; those since the last progress; temporary failures.
    Column("restarts", Integer, nullable=False),
    Column("stuck", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Float(53), nullable=False),
    Column("cached", Boolean, nullable=False),
    Column("error", Text),
    Column("idempotency_key", Text),
    Column("idempotency_number", Integer),
    Column("fingerprint", String(64)),
    Column("lease", String(64)),
    Column("lease_owner", Text),
    Column("lease_until", Float(53)),
    Column("callback_url", Text, nullable=False),
    Column("callback_state", String(16)),
    Column("callback_attempts", Integer, nullable=False),
    Column("callback_due_at", Float(53), index=True),
    Column("last_event", Integer, nullable=False),
    UniqueConstraint("owner", "idempotency_key", "idempotency_number", name="whisper_jobs_idempotency"),
    Index("whisper_jobs_state", "state", "number"),
    Index("whisper_jobs_owner", "owner", "number"),
)

events = Table(
    "whisper_job_events",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    Column("at", Float(53), nullable=False),
    Column("facts", Text, nullable=False),
)

# The checkpoints of unfinished jobs: the model's answers by key (inference/runtime/journal.py).
answers = Table(
    "whisper_job_answers",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("answer", LargeBinary, nullable=False),
)

results = Table(
    "whisper_job_results",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("transcript", LargeBinary, nullable=False),
)

# With --result-cache: transcripts by audio, model and options.
cache = Table(
    "whisper_result_cache",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("transcript", LargeBinary, nullable=False),
    Column("expires_at", Float(53), index=True),
)

# The statements that migrate from version 1 to 2, from 2 to 3, and so on.
MIGRATIONS: tuple[tuple[str, ...], ...] = ()

VERSION = 1 + len(MIGRATIONS)
