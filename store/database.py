"""The connection to Postgres: one pool a process, one transaction a block."""

import contextlib
import functools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.adapt import AdaptersMap, Buffer, Loader
from psycopg.conninfo import make_conninfo
from psycopg.pq import Format
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_dumps, set_json_loads
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session
from typing_extensions import override

from store.json_values import decode_json, encode_jsonb
from store.settings import settings


class Connection(psycopg.Connection[Any]):
    """A connection on which every wait has a timeout, also when the server is frozen."""

    @override
    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(
                gen, interval, settings().database_timeout_s if timeout is None else timeout
            )
        except psycopg.errors._WaitTimeout as late:
            if timeout is None:
                self.pgconn.finish()  # a late reply must not be read by the next statement
                raise psycopg.OperationalError("the database did not respond in time") from late
            raise


_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class TimestampLoader(Loader):
    """Reads times; one that Python cannot represent becomes the earliest or the latest time."""

    def __init__(self, oid: int, context: psycopg.abc.AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        loader_class = psycopg.adapters.get_loader(oid, Format.TEXT) or TimestamptzLoader
        self._loader = loader_class(oid, context)

    @override
    def load(self, data: Buffer) -> Any:
        try:
            return self._loader.load(data)
        except psycopg.DataError:  # `infinity`, a year above 9999, a year before 1
            text = bytes(data)
            is_early = text.startswith(b"-") or text.endswith(b"BC")
            return _EARLIEST if is_early else _LATEST


@functools.cache
def _adapters() -> AdaptersMap:
    """How values travel: no stored number, text, time or document makes a read fail."""
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_loader("timestamptz", TimestampLoader)
    set_json_dumps(encode_jsonb, adapters)
    set_json_loads(decode_json, adapters)
    return adapters


# TCP settings that detect a peer that has vanished.
KEEPALIVE = {
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


def connect() -> Connection:
    """A connection outside the pool, with the same limits."""
    timeout_ms = int(settings().statement_timeout_s * 1000)
    return Connection.connect(
        conninfo(),
        context=_adapters(),
        connect_timeout=3,
        options=f"-c statement_timeout={timeout_ms} -c lock_timeout={timeout_ms // 2} "
        f"-c idle_in_transaction_session_timeout={timeout_ms * 4} -c timezone=UTC",
    )


@functools.cache
def engine() -> Engine:
    """The pool of this process. Every wait has a timeout, so a stalled database gives a 503."""
    return create_engine(
        settings().database_url.get_secret_value(),
        creator=connect,
        pool_size=settings().database_pool,
        max_overflow=0,
        pool_timeout=3,
        pool_pre_ping=True,
        hide_parameters=True,  # the values of a row are no text for a log
    )


def conninfo() -> str:
    """The address of the database for psycopg.

    Not a URL: SQLAlchemy would write a space in a socket's folder as ``+``, which libpq takes for
    a plus sign.
    """
    url = make_url(settings().database_url.get_secret_value())
    (_, parameters) = url.get_dialect()().create_connect_args(url)
    # "context" has SQLAlchemy's type adapters, which only its engine uses.
    parameters = {name: value for name, value in parameters.items() if name != "context"}
    return make_conninfo(**(parameters | KEEPALIVE))


@contextlib.contextmanager
def transaction() -> Iterator[Session]:
    """A session that commits when the block ends and rolls back when it raises."""
    with Session(engine(), expire_on_commit=False) as session, session.begin():
        yield session


@contextlib.contextmanager
def read_session() -> Iterator[Session]:
    """A session for a few reads that may see different commits: no BEGIN, no COMMIT.

    On the most frequent routes, BEGIN and COMMIT would be half of all statements.
    """
    with Session(_autocommit_engine(), expire_on_commit=False) as session:
        yield session


@functools.cache
def _autocommit_engine() -> Engine:
    return engine().execution_options(isolation_level="AUTOCOMMIT")
