"""The database of jobs: SQLite, or PostgreSQL for several servers. All of its failures are JobsUnavailable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from whisper_server.core.errors import JobsUnavailable, StorageFull
from whisper_server.core.settings import SettingsError
from whisper_server.jobs.storage import schema

logger = logging.getLogger(__name__)

_LOCK_TIMEOUT = 30
# An arbitrary number for the lock that lets one server at a time create or migrate PostgreSQL's tables.
_MIGRATION_LOCK = 7_305_514_011


class Database:
    """`read()` and `write()` are transactions; they raise JobsUnavailable or IntegrityError."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        """Connects to nothing yet; `clock` is that of SQLite. Raises SettingsError for an invalid URL."""
        self._clock = clock
        try:
            self._url = sa.make_url(url)
            self.sqlite = self._url.get_backend_name() == "sqlite"
            self._engine = self._sqlite() if self.sqlite else self._postgresql()
        except ImportError as exc:
            raise SettingsError("--database-url: PostgreSQL needs pip install 'psycopg[binary]'") from exc
        except (ArgumentError, NoSuchModuleError) as exc:
            raise SettingsError(f"--database-url: {_first_line(exc)}") from exc

    def _sqlite(self) -> sa.Engine:
        engine = sa.create_engine(self._url, connect_args={"timeout": _LOCK_TIMEOUT}, pool_size=8)
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _postgresql(self) -> sa.Engine:
        if self._url.get_backend_name() != "postgresql":
            raise ArgumentError("expected postgresql://USER:PASSWORD@HOST/DATABASE")
        return sa.create_engine(self._url.set(drivername="postgresql+psycopg"), pool_size=8, pool_pre_ping=True)

    def read(self) -> AbstractContextManager[Connection]:
        return self._transaction(write=False)

    def write(self) -> AbstractContextManager[Connection]:
        """Return a transaction that is durable at the end of the block."""
        return self._transaction(write=True)

    def rows(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        """Return the result of a query in a transaction of its own."""
        with self.read() as connection:
            return connection.execute(query).all()

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        try:
            with self._engine.connect().execution_options(write=write) as connection, connection.begin():
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as exc:
            raise self._failure(_first_line(exc)) from exc

    def _failure(self, cause: str) -> JobsUnavailable:
        """Clients do not see PostgreSQL's message, which names its host and user; the log does."""
        if "disk is full" in cause or "No space left" in cause:
            return StorageFull()
        logger.error("the database of jobs failed: %s", cause)
        return JobsUnavailable(f"the database of jobs failed: {cause if self.sqlite else 'see the log of the server'}")

    def now(self, connection: Connection) -> float:
        """Return seconds since 1970 by the clock that all servers of the database share."""
        if self.sqlite:
            return self._clock()
        return float(connection.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))).scalar_one())

    def migrate(self) -> None:
        """Create the tables or migrate older ones; raises JobsUnavailable, also if they are newer."""
        with self.write() as connection:
            if not self.sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            version = _version(connection)
            if version == schema.VERSION:
                return
            if version > schema.VERSION:
                raise JobsUnavailable(
                    f"the database of jobs has version {version}, but this server supports up to {schema.VERSION}: "
                    "use the newer server, or another --data-dir or --database-url"
                )
            if version == 0:
                schema.metadata.create_all(connection)
                connection.execute(sa.insert(schema.versions).values(version=schema.VERSION))
            else:
                for statement in chain.from_iterable(schema.MIGRATIONS[version - 1 :]):
                    connection.execute(sa.text(statement))
                connection.execute(sa.update(schema.versions).values(version=schema.VERSION))
            logger.info("the database of jobs has version %d now, from %d", schema.VERSION, version)

    def close(self) -> None:
        self._engine.dispose()


def _version(connection: Connection) -> int:
    if not sa.inspect(connection).has_table(schema.versions.name):
        return 0
    return int(connection.execute(sa.select(schema.versions.c.version)).scalar_one_or_none() or 0)


def _set_up_sqlite(connection: Any, record: ConnectionPoolEntry) -> None:
    # Python's driver must not begin and end transactions by itself.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # A commit is durable when it returns.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Writers lock at the beginning: after a read, SQLite would fail instead of waiting for the lock."""
    writes = connection.get_execution_options().get("write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _first_line(exc: BaseException) -> str:
    """SQLAlchemy adds the statement and its values in further lines."""
    cause = getattr(exc, "orig", None) or exc
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
