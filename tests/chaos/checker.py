"""Invariants that hold after any faults, read from Postgres and the object store directly."""

import hashlib
from collections import Counter, defaultdict
from typing import Any

import obstore
import psycopg
from obstore.store import S3Store
from psycopg.rows import dict_row
from sqlalchemy.engine import make_url

from tests.chaos.arena import Arena
from tests.chaos.weed import BUCKET
from tests.chaos.workload import DEADLINE_S, Client, History

Rows = list[dict[str, Any]]
TERMINAL = {"succeeded", "failed", "cancelled"}
END = {"succeeded", "failed"}
NEXT = {
    None: {"queued"},
    "queued": {"starting", "paused", "cancelled"},
    "starting": {"running", "queued", "pausing", "paused", "cancelling", "cancelled", "failed"},
    "running": {"queued", "pausing", "paused", "cancelling", "cancelled", *END},
    "pausing": {"paused", "running", "starting", "cancelling", "cancelled", *END},
    "paused": {"queued", "cancelled"},
    "cancelling": {"cancelled", *END},
    "failed": {"queued"},
    "succeeded": set(),
    "cancelled": set(),
}


class Checker:
    """Asserts the invariants when no job is unfinished."""

    def __init__(self, arena: Arena) -> None:
        # Not through the proxies.
        url = make_url(arena.services.environment["STILLHOUSE_DATABASE_URL"])
        url = url.set(drivername="postgresql")
        self._address = url.render_as_string(hide_password=False)
        self.store = S3Store(
            BUCKET,
            prefix="chaos",
            endpoint=f"http://127.0.0.1:{arena.weed.port}",
            access_key_id=arena.weed.key,
            secret_access_key=arena.weed.secret,
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def rows(self, query: str, *values: Any) -> Rows:
        with psycopg.connect(self._address, row_factory=dict_row) as connection:
            return connection.execute(query, values).fetchall()

    def run(self, statement: str) -> None:
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(statement)

    def assert_all(self, clients: list[Client], history: History) -> None:
        """Every invariant; raises AssertionError at the first that does not hold."""
        self.assert_nothing_lost(clients)
        self.assert_one_publishes()
        self.assert_transitions_legal()
        self.assert_events_complete()
        self.assert_files_intact()
        self.assert_nothing_left()
        assert_responses_honest(history)

    def assert_nothing_lost(self, clients: list[Client]) -> None:
        """I1, I2: every acknowledged job exists once and has ended as requested."""
        jobs = {row["id"]: row for row in self.rows("SELECT * FROM jobs WHERE queue = 'train'")}
        keys = Counter(row["labels"].get("key") for row in jobs.values())
        for client in clients:
            for key, job in client.acknowledged.items():
                assert job in jobs, f"{job} was acknowledged and is lost"
                assert keys[key] == 1, f"{keys[key]} jobs of one key"
                state = jobs[job]["state"]
                assert state in TERMINAL, f"{job} is {state}"
                if state == "cancelled":
                    assert client.actions.get(job) == "cancel" or "cancel" in _requested_actions(
                        client, job
                    )

    def assert_one_publishes(self) -> None:
        """I3, I13: fences rise, one run is done, all files have its fence, times add up."""
        runs = defaultdict(list)
        for row in self.rows("SELECT * FROM runs ORDER BY job_id, number"):
            runs[row["job_id"]].append(row)
        for job in self.rows("SELECT * FROM jobs"):
            mine = runs[job["id"]]
            fences = [run["fence"] for run in mine]
            assert fences == sorted(set(fences)), f"{job['id']}: fences {fences}"
            assert [run["number"] for run in mine] == list(range(1, len(mine) + 1))
            done = [run["fence"] for run in mine if run["exit"] == "done"]
            assert len(done) == (job["state"] == "succeeded"), f"{job['id']}: {len(done)} done"
            owners = {
                row["fence"]
                for row in self.rows("SELECT fence FROM artifacts WHERE job_id = %s", job["id"])
            }
            assert owners <= set(done), f"{job['id']}: files of {owners}, done is {done}"
            spent = sum(
                (run["ended_at"] - run["started_at"]).total_seconds()
                for run in mine
                if run["ended_at"]
            )
            assert abs(job["device_s"] - spent) < 0.01, (job["id"], job["device_s"], spent)

    def assert_transitions_legal(self) -> None:
        """I4, by the events of every job."""
        states: dict[str, str] = {}
        query = "SELECT * FROM events WHERE type = 'state' ORDER BY job_id, seq"
        for row in self.rows(query):
            before, after = states.get(row["job_id"]), row["data"]["state"]
            assert after in NEXT[before], f"{row['job_id']}: {before} -> {after}"
            states[row["job_id"]] = after
        for row in self.rows("SELECT id, state FROM jobs"):
            assert states[row["id"]] == row["state"], row

    def assert_events_complete(self) -> None:
        """I6: numbers without a gap, curves that go forward."""
        query = "SELECT job_id, count(*) AS n, max(seq) AS last FROM events GROUP BY job_id"
        for row in self.rows(query):
            assert row["n"] == row["last"], row
        backward = self.rows(
            "SELECT job_id, key FROM (SELECT job_id, key, epoch, lag(epoch) OVER "
            "(PARTITION BY job_id, key ORDER BY step) AS before FROM metrics) m "
            "WHERE epoch < before LIMIT 3"
        )
        assert backward == []

    def assert_files_intact(self) -> None:
        """I5: every named object exists with its size and digest."""
        for table in ("artifacts", "checkpoints", "datasets", "models"):
            for row in self.rows(f"SELECT * FROM {table} WHERE object_key IS NOT NULL"):  # noqa: S608 - ours
                content = bytes(obstore.get(self.store, row["object_key"]).bytes())
                assert len(content) == row["size_bytes"], (table, row["id"])
                assert hashlib.sha256(content).hexdigest() == row["sha256"], (table, row["id"])
        query = "SELECT id FROM jobs WHERE state = 'succeeded' AND queue = 'train'"
        for row in self.rows(query):
            query = "SELECT 1 FROM artifacts WHERE job_id = %s AND name = 'student.safetensors'"
            assert len(self.rows(query, row["id"])) == 1, row

    def is_stored(self, key: str) -> bool:
        try:
            obstore.head(self.store, key)
        except FileNotFoundError:
            return False
        return True

    def students(self) -> Counter[str]:
        """I7: digests of all students of the one recipe."""
        artifact_rows = self.rows("SELECT sha256 FROM artifacts WHERE name = 'student.safetensors'")
        return Counter(row["sha256"] for row in artifact_rows)

    def assert_nothing_left(self) -> None:
        """I12: no lease without a run, no session that idles in a transaction."""
        held = "SELECT id, state FROM jobs WHERE lease_owner IS NOT NULL AND state = ANY(%s)"
        assert self.rows(held, ["queued", "paused", *TERMINAL]) == []
        idle = (
            "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' "
            "AND state_change < now() - interval '20 s'"
        )
        assert self.rows(idle) == []


def _requested_actions(client: Client, job: str) -> set[str]:
    """Actions whose response may have been lost."""
    return {
        call["path"].rpartition("/")[2]
        for call in client.history.calls
        if call["method"] == "POST" and f"/{job}/" in call["path"]
    }


def assert_responses_honest(history: History) -> None:
    """I11: in time, never a 500, every refusal a problem document."""
    for call in history.calls:
        assert call["seconds"] < DEADLINE_S, call
        assert call["status"] != 500, call
        if (call["status"] or 0) >= 400:
            assert call["media_type"] == "application/problem+json", call
