"""A partition's store as its owner writes it: everything that belongs together in one transaction.

Whoever opens a store raises the epoch kept in it; every transaction checks its epoch, so that a late former owner
cannot write. No lock is held between transactions.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import msgspec

from anomaly.disk import transaction
from anomaly.engine.events import Event
from anomaly.errors import StateError
from anomaly.service.events import written
from anomaly.service.failpoints import failpoint
from anomaly.service.stored import (
    APPLICATION_ID,
    SCHEMA,
    VERSION,
    Control,
    Identity,
    Letter,
    Rows,
    StoreReader,
    check_version,
    connect,
    pairs,
    sqlite_errors,
)

WAIT_S = 60.0
"""How long another process may stay inside a transaction before a start gives up."""
DROP_LEAST = 4
"""Of deltas that are no longer needed, twice as many as were written are dropped at once, at least so many: the oldest,
whose work all pages hold."""
DROP = "DELETE FROM deltas WHERE id IN (SELECT id FROM deltas WHERE id <= ? ORDER BY id LIMIT ?)"
T = TypeVar("T")


class LostPartition(StateError):
    """Another process owns the partition by now; nothing was written."""


class Checkpoint(NamedTuple):
    """All that one transaction writes.

    `offset` is that of the next message; `deltas` are what changed of the state, `pages` parts of it that are written
    again, and deltas up to number `superseded` are no longer needed; `idle` are vehicles that were let go, `returned`
    those of before that came back. `alerts` are changes of open alerts, id to bytes, None where one was closed.
    `waiting` are new events of vehicles that were not seen yet, `met` are vehicles for which none waits any more.
    """

    offset: int | None
    deltas: Iterable[bytes]
    positions: Mapping[str, Mapping[int, int]]
    control: Sequence[Control]
    alerts: Mapping[str, bytes | None]
    outbox: Sequence[Letter]
    rows: Sequence[Rows]
    waiting: Sequence[Event] = ()
    met: Sequence[str] = ()
    pages: Mapping[int, bytes] = MappingProxyType({})
    superseded: int = 0
    idle: Mapping[str, bytes] = MappingProxyType({})
    returned: Sequence[str] = ()


class PartitionStore(StoreReader):
    """The store in `path`, made when it is not there; this process owns it until another one opens it.

    `fresh`: state and offset are given up; the control log, the outbox and what was logged stay. `waiting` is
    called, about once a second and for at most a minute, while another process is inside a transaction.

    Raises StateError for a store that is newer or of another frame, DataError for a full disk.
    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        fresh: bool = False,
        waiting: Callable[[Path], None] = lambda _path: None,
    ) -> None:
        with sqlite_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.path = path
            self._connection = connect(path)
            try:
                _patiently(lambda: _prepare(self._connection, path, identity), lambda: waiting(path))
                self.epoch = _patiently(lambda: self._take(identity, fresh), lambda: waiting(path))
            except BaseException:
                self._connection.close()
                raise
        failpoint("open.after_epoch")

    def _take(self, identity: Identity, fresh: bool) -> int:
        with transaction(self._connection) as connection:
            row = connection.execute("SELECT epoch, frame FROM owner").fetchone()
            if fresh:
                connection.execute("UPDATE owner SET offset = NULL, positions = '{}'")
                connection.execute("DELETE FROM pages")
                connection.execute("DELETE FROM deltas")
                connection.execute("DELETE FROM idle")
                connection.execute("DELETE FROM alerts")
                connection.execute("DELETE FROM waiting")
                connection.execute("INSERT INTO control (offset, kind, digest, payload) VALUES (0, 'fresh', '', x'')")
            elif row[1] != identity.frame:
                raise StateError(
                    f"{self.path} belongs to frame {row[1][:12]}, the model to {identity.frame[:12]}; promote a model "
                    "of that frame, or start again with --fresh-state"
                )
            epoch = int(row[0]) + 1
            connection.execute("UPDATE owner SET epoch = ?, fleet = ?, frame = ?", (epoch, *identity))
        return epoch

    def checkpoint(self, checkpoint: Checkpoint) -> tuple[int, int]:
        """Write all of it, or nothing; answers the number of the last delta, and the bytes of those written now.

        LostPartition if the partition is somebody else's by now.
        """
        failpoint("checkpoint.before_begin")
        with self._owned() as connection:
            written = _write_state(connection, checkpoint)
            failpoint("checkpoint.after_state")
            positions = msgspec.json.encode(checkpoint.positions).decode()
            connection.execute("UPDATE owner SET offset = ?, positions = ?", (checkpoint.offset, positions))
            _append(connection, checkpoint)
            failpoint("checkpoint.before_commit")
        failpoint("checkpoint.after_commit")
        return written

    def record_cut(self, files: Mapping[str, Sequence[str]]) -> None:
        """Record files that hold all rows of the logs named, and drop these rows, in one transaction."""
        with self._owned() as connection:
            for name, paths in files.items():
                connection.executemany("INSERT INTO files VALUES (?, ?)", [(name, path) for path in paths])
                connection.execute("DELETE FROM rows WHERE name = ?", (name,))
            failpoint("cut.before_commit")
        failpoint("cut.after_commit")

    def replace_files(self, name: str, added: Sequence[str], dropped: Sequence[str]) -> None:
        """Record that the rows of a log's files `dropped` are in `added` now, or are kept no longer."""
        with self._owned() as connection:
            connection.executemany("DELETE FROM files WHERE name = ? AND path = ?", [(name, path) for path in dropped])
            connection.executemany("INSERT INTO files VALUES (?, ?)", [(name, path) for path in added])

    def mark_sent(self, ids: Sequence[int]) -> None:
        """Forget letters that were sent."""
        with self._owned() as connection:
            connection.executemany("DELETE FROM outbox WHERE id = ?", [(number,) for number in ids])
        failpoint("outbox.after_mark")

    def check_owned(self) -> None:
        """LostPartition if the partition is somebody else's by now."""
        with self._owned():
            pass

    @contextmanager
    def _owned(self) -> Iterator[sqlite3.Connection]:
        """A transaction in which the partition is known to be ours."""
        with sqlite_errors(self.path), transaction(self._connection) as connection:
            epoch = connection.execute("SELECT epoch FROM owner").fetchone()[0]
            if epoch != self.epoch:
                raise LostPartition(
                    f"{self.path}: another process took this partition over (its epoch is {epoch}, ours {self.epoch});"
                    " nothing was written. Start again to go on with the partitions that are left"
                )
            yield connection


def _write_state(connection: sqlite3.Connection, checkpoint: Checkpoint) -> tuple[int, int]:
    last = size = count = 0
    for blob in checkpoint.deltas:
        last = connection.execute("INSERT INTO deltas (blob) VALUES (?)", (blob,)).lastrowid or 0
        size += len(blob)
        count += 1
    connection.executemany("INSERT OR REPLACE INTO pages VALUES (?, ?)", list(checkpoint.pages.items()))
    if checkpoint.superseded:
        connection.execute(DROP, (checkpoint.superseded, max(DROP_LEAST, 2 * count)))
    connection.executemany("DELETE FROM idle WHERE vehicle = ?", [(vehicle,) for vehicle in checkpoint.returned])
    connection.executemany("INSERT OR REPLACE INTO idle VALUES (?, ?)", list(checkpoint.idle.items()))
    return last, size


def _append(connection: sqlite3.Connection, checkpoint: Checkpoint) -> None:
    gone, put = pairs(checkpoint.alerts)
    connection.executemany("DELETE FROM alerts WHERE id = ?", gone)
    connection.executemany("INSERT OR REPLACE INTO alerts VALUES (?, ?)", put)
    control = "INSERT INTO control (offset, vehicle, kind, digest, ts, payload) VALUES (?, ?, ?, ?, ?, ?)"
    connection.executemany(control, checkpoint.control)
    connection.executemany("INSERT INTO outbox (topic, key, value) VALUES (?, ?, ?)", checkpoint.outbox)
    waiting = [(event.vehicle, written(event)) for event in checkpoint.waiting]
    connection.executemany("INSERT OR IGNORE INTO waiting (vehicle, payload) VALUES (?, ?)", waiting)
    connection.executemany("DELETE FROM waiting WHERE vehicle = ?", [(vehicle,) for vehicle in checkpoint.met])
    connection.executemany("INSERT INTO rows (name, first, last, ipc) VALUES (?, ?, ?, ?)", checkpoint.rows)


def _prepare(connection: sqlite3.Connection, path: Path, identity: Identity) -> None:
    """Make a new file a store; refuse one that is something else or newer."""
    if connection.execute("PRAGMA application_id").fetchone()[0] == 0:
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA journal_mode = WAL")
        with transaction(connection):
            if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
                for statement in SCHEMA:
                    connection.execute(statement)
                connection.execute("INSERT INTO owner VALUES (1, 0, ?, ?, NULL, '{}')", identity)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
    check_version(connection, path)


def _patiently(action: Callable[[], T], waiting: Callable[[], None]) -> T:
    """Do it when nobody else is inside a transaction."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            waiting()
