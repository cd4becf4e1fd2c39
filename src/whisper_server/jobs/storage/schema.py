"""The tables of jobs and their migrations.

To change a table, change it here, and add the statements that migrate the previous version to MIGRATIONS.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

# SQLite autoincrements only columns of the type INTEGER.
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

versions = sa.Table("whisper_schema", metadata, sa.Column("version", sa.Integer, nullable=False))

jobs = sa.Table(
    "whisper_jobs",
    metadata,
    sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, default="queued"),
    sa.Column("created_at", sa.Float(53), nullable=False),
    sa.Column("started_at", sa.Float(53)),
    sa.Column("finished_at", sa.Float(53)),
    sa.Column("expires_at", sa.Float(53), index=True),
    sa.Column("file_name", sa.Text, nullable=False),
    sa.Column("file_bytes", sa.BigInteger),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("keep_audio", sa.Boolean, nullable=False),
    # The name of the storage that has its audio; only servers that share it can run the job.
    sa.Column("storage", sa.String(64), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("task", sa.String(16), nullable=False),
    sa.Column("response_format", sa.String(32), nullable=False),
    sa.Column("fields", sa.Text, nullable=False),
    sa.Column("decoding", sa.Text, nullable=False),
    sa.Column("handling", sa.Text, nullable=False),
    sa.Column("audio_seconds", sa.Float(53)),
    sa.Column("seconds_done", sa.Float(53), nullable=False, default=0.0),
    sa.Column("segments", sa.Integer, nullable=False, default=0),
    sa.Column("speed", sa.Float(53)),
    sa.Column("progress_at", sa.Float(53)),
    sa.Column("language", sa.String(16)),
    # Restarts by other servers or a restarted one; those since the last progress; temporary failures.
    sa.Column("restarts", sa.Integer, nullable=False, default=0),
    sa.Column("stuck", sa.Integer, nullable=False, default=0),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("due_at", sa.Float(53), nullable=False),
    sa.Column("cached", sa.Boolean, nullable=False, default=False),
    sa.Column("error", sa.Text),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("idempotency_number", sa.Integer),
    sa.Column("fingerprint", sa.String(64)),
    sa.Column("lease", sa.String(64)),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_until", sa.Float(53)),
    sa.Column("callback_url", sa.Text, nullable=False),
    sa.Column("callback_state", sa.String(16)),
    sa.Column("callback_attempts", sa.Integer, nullable=False, default=0),
    sa.Column("callback_due_at", sa.Float(53), index=True),
    sa.Column("last_event", sa.Integer, nullable=False, default=0),
    sa.UniqueConstraint("owner", "idempotency_key", "idempotency_number", name="whisper_jobs_idempotency"),
    sa.Index("whisper_jobs_state", "state", "number"),
    sa.Index("whisper_jobs_owner", "owner", "number"),
)

events = sa.Table(
    "whisper_job_events",
    metadata,
    sa.Column("job_id", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("at", sa.Float(53), nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
)

# The checkpoints of unfinished jobs: the model's answers by key (inference/runtime/journal.py).
answers = sa.Table(
    "whisper_job_answers",
    metadata,
    sa.Column("job_id", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("answer", sa.LargeBinary, nullable=False),
)

results = sa.Table(
    "whisper_job_results",
    metadata,
    sa.Column("job_id", sa.String(64), primary_key=True),
    sa.Column("transcript", sa.LargeBinary, nullable=False),
)

# With --result-cache: transcripts by audio, model and options.
cache = sa.Table(
    "whisper_result_cache",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("transcript", sa.LargeBinary, nullable=False),
    sa.Column("expires_at", sa.Float(53), index=True),
)

# The statements that migrate from version 1 to 2, from 2 to 3, and so on.
MIGRATIONS: tuple[tuple[str, ...], ...] = ()

VERSION = 1 + len(MIGRATIONS)
