"""The connection to Postgres: one pool a process, one transaction a block."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session
from typing_extensions import override

from store.settings import settings


class Connection(psycopg.Connection[Any]):
    """A connection whose every wait has an end, also when the server is frozen."""

    @override
    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(
                gen, interval, settings().database_timeout_s if timeout is None else timeout
            )
        except psycopg.errors._WaitTimeout as late:
            if timeout is None:
                self.pgconn.finish()  # what it will answer belongs to nobody any more
                raise psycopg.OperationalError("the database did not answer in time") from late
            raise


# A peer that has vanished is noticed by these, because the server cannot tell us.
KEEPALIVE = {
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


def connect() -> Connection:
    """A connection of one's own, with every limit that those of the pool have."""
    timeout_ms = int(settings().statement_timeout_s * 1000)
    return Connection.connect(
        conninfo(),
        connect_timeout=3,
        options=f"-c statement_timeout={timeout_ms} -c lock_timeout={timeout_ms // 2} "
        f"-c idle_in_transaction_session_timeout={timeout_ms * 4} -c timezone=UTC",
    )


@functools.cache
def engine() -> Engine:
    """The pool of this process. Every wait has an end: a stalled database is an honest 503."""
    return create_engine(
        settings().database_url.get_secret_value(),
        creator=connect,
        pool_size=settings().database_pool,
        max_overflow=0,
        pool_timeout=3,
        pool_pre_ping=True,
    )


def conninfo() -> str:
    """The address for a connection of one's own, as psycopg takes it: to LISTEN, to hold a lock."""
    url = make_url(settings().database_url.get_secret_value()).set(drivername="postgresql")
    return url.update_query_dict(KEEPALIVE).render_as_string(hide_password=False)


@contextlib.contextmanager
def transaction() -> Iterator[Session]:
    """A session that commits when the block ends and rolls back when it raises."""
    with Session(engine(), expire_on_commit=False) as session, session.begin():
        yield session


@contextlib.contextmanager
def read_session() -> Iterator[Session]:
    """A session for a few reads that need not agree with each other: no BEGIN, no COMMIT.

    On the hottest routes these two are half of what the database is asked.
    """
    with Session(_autocommit_engine(), expire_on_commit=False) as session:
        yield session


@functools.cache
def _autocommit_engine() -> Engine:
    return engine().execution_options(isolation_level="AUTOCOMMIT")
