"""How the embedded log lies in its SQLite file: connections, tables, blocks of messages, and what errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.disk import transaction
from anomaly.errors import DataError, PeerError
from anomaly.stream.offsets import Span
from anomaly.stream.ports import Block
from anomaly.telemetry.messages import Messages

_APPLICATION_ID = 0x466C4C67  # "FlLg": tells our file from any other SQLite file
_VERSION = 1
_OFFSET_BITS = 40
_MAX_BLOCK = 4_096
_BUSY_S = 30.0

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


class Partition(NamedTuple):
    """A row of `partitions`: its number in the topic, the id in block keys, and what it holds."""

    number: int
    id: int
    span: Span
    retention_ms: int | None


class Deleted(Exception):
    """The offset is gone; the partition goes on at `first`."""

    def __init__(self, first: int) -> None:
        super().__init__(first)
        self.first = first


class Cursor:
    """Reads one partition block by block, and hands a block out in pieces where less is asked for."""

    def __init__(self, partition: int, partition_id: int, offset: int) -> None:
        self.partition = partition
        self.offset = offset
        self._low = partition_id << _OFFSET_BITS
        self._values = Messages.of([])
        self._first = offset

    def take(self, connection: sqlite3.Connection, limit: int) -> Block | None:
        """Up to `limit` messages, None if there are none. Raises Deleted if the next one is gone."""
        start = self.offset
        parts: list[Messages] = []
        while self.offset < start + limit:
            if not self._first <= self.offset < self._first + len(self._values) and not self._load(connection):
                break
            skip = self.offset - self._first
            parts.append(self._values[skip : skip + start + limit - self.offset])
            self.offset += len(parts[-1])
        offsets: NDArray[np.int64] = np.arange(start, self.offset, dtype=np.int64)
        return Block(self.partition, offsets, Messages.concatenated(parts)) if parts else None

    def _load(self, connection: sqlite3.Connection) -> bool:
        key = self._low | self.offset
        row = connection.execute(_BLOCK, (self._low, key, key)).fetchone()
        if row is None:
            later = connection.execute(_LATER, (key, self._low + (1 << _OFFSET_BITS))).fetchone()[0]
            if later is not None:
                raise Deleted(later - self._low)
            return False
        self._first = row[0] - self._low
        self._values = Messages.stored(row[1], row[2])
        return True


def append(connection: sqlite3.Connection, partition: Partition, values: list[bytes], now_ms: int) -> None:
    """Add `values` at the end of `partition`, in a transaction of the caller's."""
    end = partition.span.end
    for start in range(0, len(values), _MAX_BLOCK):
        part = values[start : start + _MAX_BLOCK]
        lengths = np.fromiter(map(len, part), dtype="<u4", count=len(part)).tobytes()
        row = (partition.id << _OFFSET_BITS | end, len(part), now_ms, lengths, b"".join(part))
        connection.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", row)
        end += len(part)
    connection.execute('UPDATE partitions SET "end" = ? WHERE id = ?', (end, partition.id))


def expire(connection: sqlite3.Connection, partition: Partition, now_ms: int) -> None:
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


def partitions_of(connection: sqlite3.Connection, topic: str) -> list[Partition]:
    """The partitions of `topic` as they are now, in order; none if there is no such topic."""
    rows = connection.execute(_PARTITIONS, (topic,))
    return [Partition(number, key, Span(start, end), keep) for number, key, start, end, keep in rows]


def connect(path: Path) -> sqlite3.Connection:
    """A connection of one's own, for one thread at a time. Raises PeerError if the file cannot be opened."""
    try:
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise PeerError(f"the log {path} cannot be opened: {error}; does its folder exist?") from error
    with errors(path):
        connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make a new file a log, and refuse one that is something else."""
    if _is_empty(connection):
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA journal_mode = WAL")
        with transaction(connection):
            if _is_empty(connection):  # no other process was faster
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    connection.execute(statement)
    identity = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if identity != _APPLICATION_ID:
        raise DataError(f"{path} is a SQLite file, but no log of messages; --log needs a file of its own")
    if version > _VERSION:
        raise DataError(f"{path} has version {version}, this program knows {_VERSION}; use a newer program")


def _is_empty(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) = 0 FROM sqlite_schema").fetchone()[0])


@contextmanager
def errors(path: Path) -> Iterator[None]:
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
