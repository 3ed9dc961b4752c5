"""What a partition's store holds, and reading it without owning it: its file, schema and rows."""

from __future__ import annotations

import glob
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from anomaly.engine.events import Event, Kept
from anomaly.errors import DataError, StateError
from anomaly.service.events import read

VERSION = 3
"""1 kept one snapshot; it was never released."""
APPLICATION_ID = 0x466C5374  # "FlSt": tells our file from any other SQLite file
BUSY_S = 1.0

SCHEMA = (
    "CREATE TABLE owner (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, fleet TEXT NOT NULL,"
    " frame TEXT NOT NULL, offset INTEGER, positions TEXT NOT NULL) STRICT",
    "CREATE TABLE pages (number INTEGER PRIMARY KEY, blob BLOB NOT NULL) STRICT",
    "CREATE TABLE deltas (id INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL) STRICT",
    "CREATE TABLE idle (vehicle TEXT PRIMARY KEY, blob BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE control (id INTEGER PRIMARY KEY, offset INTEGER NOT NULL, vehicle TEXT, kind TEXT NOT NULL,"
    " digest TEXT NOT NULL, ts INTEGER, payload BLOB NOT NULL) STRICT",
    "CREATE TABLE alerts (id TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE INDEX control_vehicle ON control (vehicle) WHERE vehicle IS NOT NULL",
    "CREATE TABLE waiting (vehicle TEXT NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (vehicle, payload))"
    " STRICT, WITHOUT ROWID",
    "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, key BLOB, value BLOB NOT NULL)"
    " STRICT",
    "CREATE TABLE rows (id INTEGER PRIMARY KEY, name TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,"
    " ipc BLOB NOT NULL) STRICT",
    "CREATE TABLE files (name TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY (name, path)) STRICT, WITHOUT ROWID",
)


class Control(NamedTuple):
    """A row of the control log: from `offset` on, `kind` with `payload` changes how readings are decided.

    `vehicle` None: those of all vehicles. `digest` is that of the payload, `ts` its time, None where it has none.
    """

    offset: int
    vehicle: str | None
    kind: str
    digest: str
    ts: int | None
    payload: bytes


class Letter(NamedTuple):
    """A message to send: an alert or a dead letter."""

    topic: str
    key: bytes | None
    value: bytes


class Rows(NamedTuple):
    """Rows of one log (`decisions` or `archive`) as an Arrow IPC stream, from messages `first` to `last`."""

    name: str
    first: int
    last: int
    ipc: bytes


class Sizes(NamedTuple):
    """Bytes in a store: of the state's pages, of the deltas beside them, of the rows that are in no file yet."""

    pages: int
    deltas: int
    rows: int


class Identity(NamedTuple):
    """What a store belongs to: digests of the fleet file and of the frame that its state was built with."""

    fleet: str
    frame: str


def store_path(folder: Path, group: str, topic: str, partition: int) -> Path:
    """Where a partition's store is: `<folder>/state/<group>/<topic>-<partition>.db`."""
    return folder / "state" / quote(group, safe="") / f"{topic}-{partition}.db"


def store_paths(folder: Path, group: str | None = None) -> list[Path]:
    """All stores below `folder`, or those of one group; one that is being made at this moment is not one yet."""
    found = (folder / "state").glob(f"{'*' if group is None else glob.escape(quote(group, safe=''))}/*.db")
    return sorted(path for path in found if _is_made(path))


def _is_made(path: Path) -> bool:
    """Whether there is anything in a file; an owner fills a new one in one transaction."""
    connection = connect(path)
    try:
        with sqlite_errors(path):
            return bool(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    finally:
        connection.close()


def partition_of_store(path: Path) -> int:
    """The number of the partition whose store is in `path`."""
    return int(path.stem.rpartition("-")[2])


class StoreReader:
    """Reads the store in `path` beside its owner. StateError if it is newer than this program or no store."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise StateError(f"{path} is not there; `anomaly score` makes it")
        self.path = path
        self._connection = connect(path)
        with sqlite_errors(path):
            check_version(self._connection, path)

    @property
    def identity(self) -> Identity:
        """The digests of fleet and frame."""
        return Identity(*self._query("SELECT fleet, frame FROM owner")[0])

    def offset(self) -> int | None:
        """The offset to go on from, None where nothing was written yet."""
        value = self._query("SELECT offset FROM owner")[0][0]
        return None if value is None else int(value)

    def positions(self) -> dict[str, dict[int, int]]:
        """How far the topics that are read whole were read: topic to partition to next offset."""
        text = self._query("SELECT positions FROM owner")[0][0]
        return msgspec.json.decode(text, type=dict[str, dict[int, int]])

    def state(self) -> Iterator[bytes]:
        """Pages, then deltas in order, as `Engine.apply` takes them."""
        with self.still():
            for query in ("SELECT blob FROM pages", "SELECT blob FROM deltas ORDER BY id"):
                for row in self._connection.execute(query):
                    yield row[0]

    def idle(self, vehicles: Sequence[str]) -> dict[str, bytes]:
        """The state of those of the vehicles that were let go, as `Engine.evict` gave it."""
        query = "SELECT vehicle, blob FROM idle WHERE vehicle IN (SELECT value FROM json_each(?))"
        return dict(self._query(query, msgspec.json.encode(vehicles).decode()))

    def away(self) -> list[str]:
        """The vehicles that were let go and did not come back."""
        return [row[0] for row in self._query("SELECT vehicle FROM idle")]

    def idle_sizes(self) -> tuple[int, int]:
        """How many vehicles were let go and did not come back, and the bytes of their state."""
        count, size = self._query("SELECT count(*), coalesce(sum(length(blob)), 0) FROM idle")[0]
        return int(count), int(size)

    def idles(self) -> bool:
        """Whether there is any."""
        return bool(self._query("SELECT EXISTS (SELECT * FROM idle)")[0][0])

    def last_delta(self) -> int:
        """The number of the newest delta, 0 if there is none."""
        return int(self._query("SELECT coalesce(max(id), 0) FROM deltas")[0][0])

    def sizes(self) -> Sizes:
        """How much the store holds."""
        held = (("blob", "pages"), ("blob", "deltas"), ("ipc", "rows"))
        sums = (f"(SELECT coalesce(sum(length({column})), 0) FROM {table})" for column, table in held)
        return Sizes(*self._query(f"SELECT {', '.join(sums)}")[0])

    def alerts(self) -> dict[str, bytes]:
        """Open alerts, id to bytes."""
        return dict(self._query("SELECT id, value FROM alerts ORDER BY id"))

    def control(self) -> list[Control]:
        """The whole control log in order."""
        query = "SELECT offset, vehicle, kind, digest, ts, payload FROM control ORDER BY id"
        return [Control(*row) for row in self._query(query)]

    def last_control(self, kind: str) -> Control | None:
        """The newest row of one kind since the state was last started afresh."""
        query = (
            "SELECT offset, vehicle, kind, digest, ts, payload FROM control WHERE kind = ? AND id >"
            " coalesce((SELECT max(id) FROM control WHERE kind = 'fresh'), 0) ORDER BY id DESC LIMIT 1"
        )
        rows = self._query(query, kind)
        return Control(*rows[0]) if rows else None

    def waiting(self, vehicles: Sequence[str]) -> list[Event]:
        """Events that wait for the first reading of one of these vehicles."""
        query = "SELECT payload FROM waiting WHERE vehicle = ?"
        return [read(row[0])[0] for vehicle in vehicles for row in self._query(query, vehicle)]

    def kept(self, vehicle: str, event: str) -> Kept | None:
        """The baseline of a vehicle that a restart ended, by the restart's id; None if there was none."""
        query = "SELECT payload FROM control WHERE vehicle = ? AND kind = 'event' ORDER BY id DESC"
        for row in self._query(query, vehicle):
            found, kept = read(row[0])
            if found.id == event and kept is not None:
                return kept
        return None

    def waits(self) -> bool:
        """Whether an event waits for a vehicle that was not seen yet."""
        return bool(self._query("SELECT EXISTS (SELECT * FROM waiting)")[0][0])

    def pending(self, limit: int = 1_000) -> list[tuple[int, Letter]]:
        """The oldest letters that are not marked as sent, with their ids."""
        rows = self._query("SELECT id, topic, key, value FROM outbox ORDER BY id LIMIT ?", limit)
        return [(row[0], Letter(*row[1:])) for row in rows]

    def files(self) -> dict[str, list[str]]:
        """Recorded files by log, as paths below the log's folder."""
        found: dict[str, list[str]] = {}
        for name, path in self._query("SELECT name, path FROM files ORDER BY path"):
            found.setdefault(name, []).append(path)
        return found

    def rows(self, name: str) -> list[Rows]:
        """Rows of a log that are in no file yet, in order."""
        query = "SELECT name, first, last, ipc FROM rows WHERE name = ? ORDER BY id"
        return [Rows(*row) for row in self._query(query, name)]

    def portions(self, name: str, size: int) -> Iterator[list[Rows]]:
        """The same in portions, each read when asked for: of `size` bytes or a little more, the last of the rest."""
        query = "SELECT name, first, last, ipc FROM rows WHERE name = ? AND id BETWEEN ? AND ? ORDER BY id"
        first, held = None, 0
        for number, length in self._query("SELECT id, length(ipc) FROM rows WHERE name = ? ORDER BY id", name):
            first, held, last = number if first is None else first, held + length, number
            if held >= size:
                yield [Rows(*row) for row in self._query(query, name, first, last)]
                first, held = None, 0
        if first is not None:
            yield [Rows(*row) for row in self._query(query, name, first, last)]

    @contextmanager
    def still(self) -> Iterator[None]:
        """All that is read inside is as it was at the first read, whatever the owner writes meanwhile."""
        with sqlite_errors(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _query(self, sql: str, *values: object) -> list[Any]:
        with sqlite_errors(self.path):
            return self._connection.execute(sql, values).fetchall()


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits survive a power cut."""
    with sqlite_errors(path):
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """StateError if the file is newer than this program, or no store at all."""
    known = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if known != APPLICATION_ID:
        raise StateError(f"{path} is no store of a partition; move it away")
    if version != VERSION:
        way = "use the newer program" if version > VERSION else "finish with the older program"
        raise StateError(
            f"{path} has version {version}, this program knows {VERSION}; {way}, or start over in another folder with "
            "--dir"
        )


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """SQLite's errors as ours; anything that is no fault of file, disk or another process stays what it is."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; nothing of this was written") from error
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "full" in text or "disk I/O" in text:
            raise DataError(
                f"{path}: {text}; nothing of this checkpoint was written. Free some space and start again"
            ) from error
        if "locked" in text:
            raise StateError(
                f"{path}: another process stays inside a transaction; end it (it may be stopped) and start again"
            ) from error
        if any(sign in text for sign in ("not a database", "malformed", "unable to open", "readonly")):
            raise StateError(f"{path}: {text}; restore it, or start over with another --dir") from error
        raise


def pairs(changes: Mapping[str, bytes | None]) -> tuple[Sequence[tuple[str]], Sequence[tuple[str, bytes]]]:
    """Changes of alerts as ids to drop and rows to put."""
    gone = [(key,) for key, value in changes.items() if value is None]
    return gone, [(key, value) for key, value in changes.items() if value is not None]
