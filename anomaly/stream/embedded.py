"""The embedded log: topics, partitions and offsets in one SQLite file, one row for a block of messages.

A block holds the lengths and the joined bytes of consecutive messages of a partition, so that writing costs
little and reading next to nothing. Its row id is `partition_id << 40 | first offset`: blocks of a partition lie
side by side in order of offset. Several processes may write and read at once. What `Sink.send` wrote survives the
end of the process at any moment; a power cut may cost the last transactions (WAL, synchronous=NORMAL).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.errors import DataError, PeerError
from anomaly.stream.lock import OwnerLock
from anomaly.stream.offsets import First, Span, gone, no_topic, starting_offset
from anomaly.stream.partitions import partition_of
from anomaly.stream.ports import Block, Owner, Record, Topic

_APPLICATION_ID = 0x466C4C67  # "FlLg": tells our file from any other SQLite file
_VERSION = 1
_OFFSET_BITS = 40
_MAX_BLOCK = 4_096
_BUSY_S = 30.0
_EXPIRE_EVERY_MS = 10_000
_IDLE_S = 0.002

_SCHEMA = f"""
CREATE TABLE topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, retention_ms INTEGER) STRICT;
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL REFERENCES topics, number INTEGER NOT NULL,
    start INTEGER NOT NULL DEFAULT 0, "end" INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, number)
) STRICT;
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY, n INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    lengths BLOB NOT NULL, bytes BLOB NOT NULL
) STRICT;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
"""

_PARTITIONS = """
SELECT p.number, p.id, p.start, p."end", t.retention_ms FROM partitions p JOIN topics t ON t.id = p.topic
WHERE t.name = ? ORDER BY p.number
"""
_BLOCK = """
SELECT id, lengths, bytes FROM blocks
WHERE id = (SELECT max(id) FROM blocks WHERE id BETWEEN ? AND ?) AND id + n > ?
"""
_LATER = "SELECT min(id) FROM blocks WHERE id > ? AND id < ?"


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class _Partition(NamedTuple):
    """A row of `partitions`: its number in the topic, the id in block keys, and what it holds."""

    number: int
    id: int
    span: Span
    retention_ms: int | None


class EmbeddedLog:
    """A log in the SQLite file `path`, made when it is not there; `now_ms` is the clock of retention.

    Raises DataError if the file is something else or newer than this program, PeerError if it cannot be had.
    """

    def __init__(self, path: Path, now_ms: Callable[[], int] = _wall_ms) -> None:
        self.path = path
        self._now_ms = now_ms
        self._connection = _connect(path)
        with _errors(path):
            _prepare(self._connection, path)

    def create_topics(
        self, partitions: Mapping[str, int], retention_ms: int, compacted: Collection[str] = (), replication: int = 1
    ) -> list[str]:
        """Create the missing ones of the topics; here a compacted topic keeps everything."""
        del replication
        with _errors(self.path), _transaction(self._connection) as connection:
            known = {name for (name,) in connection.execute("SELECT name FROM topics")}
            made = [name for name in partitions if name not in known]
            for name in made:
                keep = None if name in compacted else retention_ms
                row = connection.execute("INSERT INTO topics (name, retention_ms) VALUES (?, ?)", (name, keep))
                numbers = ((row.lastrowid, number) for number in range(partitions[name]))
                connection.executemany("INSERT INTO partitions (topic, number) VALUES (?, ?)", numbers)
        return made

    def topic(self, name: str) -> Topic | None:
        """The topic as it is now, None if there is none."""
        with _errors(self.path):
            found = _partitions(self._connection, name)
        if not found:
            return None
        return Topic(name, len(found), [p.span.start for p in found], [p.span.end for p in found])

    def source(self, topic: str, group: str, owner: Owner, first: First) -> EmbeddedSource:
        """All partitions of `topic`. ConfigError if another process reads it in `group`."""
        self._require(topic)
        lock = OwnerLock(self.path, group, topic)
        try:
            return EmbeddedSource(self.path, topic, owner, first, lock)
        except BaseException:
            lock.close()
            raise

    def reader(self, topic: str, positions: Mapping[int, int]) -> EmbeddedReader:
        """The whole of `topic` from `positions` on."""
        self._require(topic)
        return EmbeddedReader(self.path, topic, positions)

    def sink(self) -> EmbeddedSink:
        """A place to write to, with a connection of its own."""
        return EmbeddedSink(self.path, self._now_ms)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _require(self, topic: str) -> None:
        if self.topic(topic) is None:
            raise no_topic(topic, str(self.path))


class _Deleted(Exception):
    """The offset is gone; the partition goes on at `first`."""

    def __init__(self, first: int) -> None:
        super().__init__(first)
        self.first = first


class _Cursor:
    """Reads one partition block by block, and hands a block out in pieces where less is asked for."""

    def __init__(self, partition: int, partition_id: int, offset: int) -> None:
        self.partition = partition
        self.offset = offset
        self._low = partition_id << _OFFSET_BITS
        self._values: list[bytes] = []
        self._first = offset

    def take(self, connection: sqlite3.Connection, limit: int) -> Block | None:
        """Up to `limit` messages, None if there are none. Raises _Deleted if the next one is gone."""
        start = self.offset
        values: list[bytes] = []
        while len(values) < limit:
            if not self._first <= self.offset < self._first + len(self._values) and not self._load(connection):
                break
            skip = self.offset - self._first
            piece = self._values[skip : skip + limit - len(values)]
            values = values + piece if values else piece
            self.offset += len(piece)
        offsets: NDArray[np.int64] = np.arange(start, self.offset, dtype=np.int64)
        return Block(self.partition, offsets, values) if values else None

    def _load(self, connection: sqlite3.Connection) -> bool:
        key = self._low | self.offset
        row = connection.execute(_BLOCK, (self._low, key, key)).fetchone()
        if row is None:
            later = connection.execute(_LATER, (key, self._low + (1 << _OFFSET_BITS))).fetchone()[0]
            if later is not None:
                raise _Deleted(later - self._low)
            return False
        self._first = row[0] - self._low
        self._values = _split(row[1], row[2])
        return True


class EmbeddedSource:
    """A topic's messages in turn over its partitions; see `ports.Source`. For one thread at a time."""

    def __init__(self, path: Path, topic: str, owner: Owner, first: First, lock: OwnerLock) -> None:
        self._path = path
        self._topic = topic
        self._owner = owner
        self._first = first
        self._lock = lock
        self._connection = _connect(path)
        self._cursors: dict[int, _Cursor] | None = None
        self._paused: set[int] = set()
        self._turn = 0

    def poll(self, max_messages: int, timeout_s: float) -> list[Block]:
        """What is there, at most `max_messages`; waits up to `timeout_s` for the first."""
        until = time.monotonic() + timeout_s
        with _errors(self._path):
            if self._cursors is None:
                self._cursors = self._assign()
            while True:
                if blocks := self._take(max_messages):
                    return blocks
                left = until - time.monotonic()
                if left <= 0:
                    return []
                time.sleep(min(_IDLE_S, left))

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Nothing to tell: there is no group, and whoever wants the lag asks for it."""

    def lag(self) -> Mapping[int, int]:
        """Messages that each partition still has to read."""
        with _errors(self._path):
            found = _partitions(self._connection, self._topic)
        owned = self._cursors or {}
        return {p.number: p.span.end - owned[p.number].offset for p in found if p.number in owned}

    def pause(self, partitions: Sequence[int]) -> None:
        """Read nothing from `partitions` until `resume`."""
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[int]) -> None:
        """Read from `partitions` again."""
        self._paused.difference_update(partitions)

    def close(self) -> None:
        """Give all partitions up and let another process have them."""
        owned, self._cursors = self._cursors, None
        try:
            if owned:
                self._owner.revoked(list(owned))
        finally:
            self._connection.close()
            self._lock.close()

    def _assign(self) -> dict[int, _Cursor]:
        found = _partitions(self._connection, self._topic)
        stored = self._owner.assigned([p.number for p in found])
        cursors = {}
        for p in found:
            offset = starting_offset(self._topic, p.number, stored.get(p.number), self._first, p.span)
            cursors[p.number] = _Cursor(p.number, p.id, offset)
        return cursors

    def _take(self, limit: int) -> list[Block]:
        """Up to `limit` messages, beginning with another partition each time, so that none starves."""
        cursors = [cursor for number, cursor in (self._cursors or {}).items() if number not in self._paused]
        blocks: list[Block] = []
        self._turn += 1
        for turn in range(len(cursors)):
            if limit > 0 and (block := self._next(cursors[(self._turn + turn) % len(cursors)], limit)):
                blocks.append(block)
                limit -= len(block.values)
        return blocks

    def _next(self, cursor: _Cursor, limit: int) -> Block | None:
        try:
            return cursor.take(self._connection, limit)
        except _Deleted as error:
            span = next(p.span for p in _partitions(self._connection, self._topic) if p.number == cursor.partition)
            raise gone(self._topic, cursor.partition, cursor.offset, span) from error


class EmbeddedReader:
    """A whole topic outside any group; see `ports.Reader`. A deleted beginning is skipped."""

    def __init__(self, path: Path, topic: str, positions: Mapping[int, int]) -> None:
        self._path = path
        self._topic = topic
        self._connection = _connect(path)
        with _errors(path):
            found = _partitions(self._connection, topic)
        for p in found:
            if positions.get(p.number, 0) > p.span.end:
                raise gone(topic, p.number, positions[p.number], p.span)
        self._cursors = {
            p.number: _Cursor(p.number, p.id, max(positions.get(p.number, 0), p.span.start)) for p in found
        }

    def read_to_end(self) -> list[Block]:
        """Everything that came since the last call."""
        blocks: list[Block] = []
        with _errors(self._path):
            for p in _partitions(self._connection, self._topic):
                if block := self._rest(self._cursors[p.number], p.span):
                    blocks.append(block)
        return blocks

    def _rest(self, cursor: _Cursor, span: Span) -> Block | None:
        cursor.offset = max(cursor.offset, span.start)
        while True:
            try:
                return cursor.take(self._connection, span.end - cursor.offset)
            except _Deleted as deleted:  # by a writer, since `span` was read
                cursor.offset = deleted.first

    @property
    def positions(self) -> Mapping[int, int]:
        """The offset of the next message of each partition."""
        return {number: cursor.offset for number, cursor in self._cursors.items()}

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


class EmbeddedSink:
    """Appends blocks, a transaction a `send`, and drops what is older than the topic's retention."""

    def __init__(self, path: Path, now_ms: Callable[[], int]) -> None:
        self._path = path
        self._now_ms = now_ms
        self._connection = _connect(path)
        self._expired_ms: dict[str, int] = {}
        self._turn = 0

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Append `records`. PeerError for an unknown topic or partition, DataError for a full disk."""
        now_ms = self._now_ms()
        with _errors(self._path), _transaction(self._connection) as connection:
            found = _partitions(connection, topic)
            if not found:
                raise no_topic(topic, str(self._path))
            for number, values in self._by_partition(topic, records, len(found)).items():
                _append(connection, found[number], values, now_ms)
            if now_ms - self._expired_ms.get(topic, -_EXPIRE_EVERY_MS) >= _EXPIRE_EVERY_MS:
                self._expired_ms[topic] = now_ms
                for p in found:
                    _expire(connection, p, now_ms)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _by_partition(self, topic: str, records: Sequence[Record], partitions: int) -> dict[int, list[bytes]]:
        """The values for each partition; keyless ones of a call go together, to the next in turn."""
        values: dict[int, list[bytes]] = {}
        self._turn = (self._turn + 1) % partitions
        for key, value, number in records:
            if number is None:
                number = self._turn if key is None else partition_of(key, partitions)
            if number in values:
                values[number].append(value)
            elif 0 <= number < partitions:
                values[number] = [value]
            else:
                raise PeerError(f"{self._path}: {topic} has {partitions} partitions, there is no number {number}")
        return values


def _append(connection: sqlite3.Connection, partition: _Partition, values: list[bytes], now_ms: int) -> None:
    end = partition.span.end
    for start in range(0, len(values), _MAX_BLOCK):
        part = values[start : start + _MAX_BLOCK]
        lengths = np.fromiter(map(len, part), dtype="<u4", count=len(part)).tobytes()
        row = (partition.id << _OFFSET_BITS | end, len(part), now_ms, lengths, b"".join(part))
        connection.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", row)
        end += len(part)
    connection.execute('UPDATE partitions SET "end" = ? WHERE id = ?', (end, partition.id))


def _expire(connection: sqlite3.Connection, partition: _Partition, now_ms: int) -> None:
    """Drop the oldest blocks of `partition` while they are older than its retention."""
    if partition.retention_ms is None:
        return
    low = partition.id << _OFFSET_BITS
    query = "SELECT id, n, at_ms FROM blocks WHERE id >= ? AND id < ? ORDER BY id"
    old_end = None
    for key, n, at_ms in connection.execute(query, (low, low + (1 << _OFFSET_BITS))):
        if at_ms >= now_ms - partition.retention_ms:
            break
        old_end = key - low + n
    if old_end is not None:
        connection.execute("DELETE FROM blocks WHERE id >= ? AND id < ?", (low, low + old_end))
        connection.execute("UPDATE partitions SET start = ? WHERE id = ?", (old_end, partition.id))


def _split(lengths: bytes, joined: bytes) -> list[bytes]:
    ends = np.frombuffer(lengths, dtype="<u4").cumsum(dtype=np.int64).tolist()
    return [joined[start:stop] for start, stop in zip([0, *ends[:-1]], ends, strict=True)]


def _partitions(connection: sqlite3.Connection, topic: str) -> list[_Partition]:
    rows = connection.execute(_PARTITIONS, (topic,))
    return [_Partition(number, key, Span(start, end), keep) for number, key, start, end, keep in rows]


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise PeerError(f"the log {path} cannot be opened: {error}; does its folder exist?") from error
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make a new file a log, and refuse one that is something else."""
    connection.execute("PRAGMA page_size = 16384")
    if connection.execute("PRAGMA application_id").fetchone()[0] == 0:
        connection.execute("PRAGMA journal_mode = WAL")
        with _transaction(connection):
            tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if tables == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    connection.execute(statement)
    identity = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if identity != _APPLICATION_ID:
        raise DataError(f"{path} is a SQLite file, but no log of messages; --log needs a file of its own")
    if version > _VERSION:
        raise DataError(f"{path} has version {version}, this program knows {_VERSION}; use a newer program")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One writer at a time; all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """SQLite's errors as ours; anything that is no fault of the file or the disk stays what it is."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "is full" in text or "disk I/O" in text:
            raise DataError(f"{path}: {text}; nothing of this was written. Free some space and start again") from error
        if "locked" in text:
            raise PeerError(f"{path}: another process keeps the log locked for over {_BUSY_S:.0f} s") from error
        if "not a database" in text or "malformed" in text:
            raise DataError(f"{path}: {text}; restore it from a copy, or use another file") from error
        raise
