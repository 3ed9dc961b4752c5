"""The embedded log: topics, partitions and offsets in one SQLite file, one row for a block of messages.

A block holds the lengths and the joined bytes of consecutive messages of a partition, so that writing costs
little and reading next to nothing. Its row id is `partition_id << 40 | first offset`: blocks of a partition lie
side by side in order of offset. Several processes may write and read at once. What `Sink.send` wrote survives the
end of the process at any moment; a power cut may cost the last transactions (WAL, synchronous=NORMAL).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from anomaly.disk import transaction
from anomaly.errors import PeerError
from anomaly.lock import OwnerLock
from anomaly.stream.blocks import Cursor, Deleted, append, connect, errors, expire, partitions_of, prepare
from anomaly.stream.offsets import First, Span, gone, no_topic, starting_offset
from anomaly.stream.partitions import partition_of
from anomaly.stream.ports import Block, Owner, Record, Topic

_EXPIRE_EVERY_MS = 10_000
_IDLE_S = 0.002


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def owner_lock(log: Path, group: str, topic: str) -> OwnerLock:
    """Keep other processes from reading `topic` of a log as `group`: there is no broker to share partitions out."""
    path = log.with_name(f"{log.name}.{quote(group, safe='')}.{quote(topic, safe='')}.lock")
    return OwnerLock(path, f"reads {topic} of {log} as group {group}; end it, or use another --group")


class EmbeddedLog:
    """A log in the SQLite file `path`, made when it is not there; `now_ms` is the clock of retention.

    Raises DataError if the file is something else or newer than this program, PeerError if it cannot be had.
    """

    def __init__(self, path: Path, now_ms: Callable[[], int] = _wall_ms) -> None:
        self.path = path
        self._now_ms = now_ms
        self._connection = connect(path)
        with errors(path):
            prepare(self._connection, path)

    def create_topics(
        self, partitions: Mapping[str, int], retention_ms: int, compacted: Collection[str] = (), replication: int = 1
    ) -> list[str]:
        """Create the missing ones of the topics; here a compacted topic keeps everything."""
        del replication
        with errors(self.path), transaction(self._connection) as connection:
            known = {name for (name,) in connection.execute("SELECT name FROM topics")}
            made = [name for name in partitions if name not in known]
            for name in made:
                keep = None if name in compacted or retention_ms < 0 else retention_ms
                row = connection.execute("INSERT INTO topics (name, retention_ms) VALUES (?, ?)", (name, keep))
                numbers = ((row.lastrowid, number) for number in range(partitions[name]))
                connection.executemany("INSERT INTO partitions (topic, number) VALUES (?, ?)", numbers)
        return made

    def topic(self, name: str) -> Topic | None:
        """The topic as it is now, None if there is none."""
        with errors(self.path):
            found = partitions_of(self._connection, name)
        if not found:
            return None
        return Topic(name, len(found), [p.span.start for p in found], [p.span.end for p in found])

    def retention_ms(self, topic: str) -> int:
        """How long messages of `topic` are kept."""
        self._require(topic)
        with errors(self.path):
            kept = partitions_of(self._connection, topic)[0].retention_ms
        return -1 if kept is None else kept

    def source(self, topic: str, group: str, owner: Owner, first: First) -> EmbeddedSource:
        """All partitions of `topic`. ConfigError if another process reads it in `group`."""
        self._require(topic)
        lock = owner_lock(self.path, group, topic)
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


class EmbeddedSource:
    """A topic's messages in turn over its partitions; see `ports.Source`. For one thread at a time."""

    def __init__(self, path: Path, topic: str, owner: Owner, first: First, lock: OwnerLock) -> None:
        self._path = path
        self._topic = topic
        self._owner = owner
        self._first = first
        self._lock = lock
        self._connection = connect(path)
        self._cursors: dict[int, Cursor] | None = None
        self._paused: set[int] = set()
        self._turn = 0

    def poll(self, max_messages: int, timeout_s: float) -> list[Block]:
        """What is there, at most `max_messages`; waits up to `timeout_s` for the first."""
        until = time.monotonic() + timeout_s
        with errors(self._path):
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

    def committed(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Nothing: there is no group that could have been told."""
        del partitions
        return {}

    def lag(self) -> Mapping[int, int]:
        """Messages that each partition still has to read."""
        with errors(self._path):
            found = partitions_of(self._connection, self._topic)
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

    def _assign(self) -> dict[int, Cursor]:
        found = partitions_of(self._connection, self._topic)
        stored = self._owner.assigned([p.number for p in found])
        cursors = {}
        for p in found:
            offset = starting_offset(self._topic, p.number, stored.get(p.number), self._first, p.span)
            cursors[p.number] = Cursor(p.number, p.id, offset)
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

    def _next(self, cursor: Cursor, limit: int) -> Block | None:
        try:
            return cursor.take(self._connection, limit)
        except Deleted as error:
            span = next(p.span for p in partitions_of(self._connection, self._topic) if p.number == cursor.partition)
            raise gone(self._topic, cursor.partition, cursor.offset, span) from error


class EmbeddedReader:
    """A whole topic outside any group; see `ports.Reader`. A deleted beginning is skipped."""

    def __init__(self, path: Path, topic: str, positions: Mapping[int, int]) -> None:
        self._path = path
        self._topic = topic
        self._connection = connect(path)
        with errors(path):
            found = partitions_of(self._connection, topic)
        for p in found:
            if positions.get(p.number, 0) > p.span.end:
                raise gone(topic, p.number, positions[p.number], p.span)
        self._cursors = {p.number: Cursor(p.number, p.id, max(positions.get(p.number, 0), p.span.start)) for p in found}

    def read_to_end(self) -> list[Block]:
        """Everything that came since the last call."""
        blocks: list[Block] = []
        with errors(self._path):
            for p in partitions_of(self._connection, self._topic):
                if block := self._rest(self._cursors[p.number], p.span):
                    blocks.append(block)
        return blocks

    def _rest(self, cursor: Cursor, span: Span) -> Block | None:
        cursor.offset = max(cursor.offset, span.start)
        while True:
            try:
                return cursor.take(self._connection, span.end - cursor.offset)
            except Deleted as deleted:  # by a writer, since `span` was read
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
        self._connection = connect(path)
        self._expired_ms: dict[str, int] = {}
        self._turn = 0

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Append `records`. PeerError for an unknown topic or partition, DataError for a full disk."""
        now_ms = self._now_ms()
        with errors(self._path), transaction(self._connection) as connection:
            found = partitions_of(connection, topic)
            if not found:
                raise no_topic(topic, str(self._path))
            for number, values in self._by_partition(topic, records, len(found)).items():
                append(connection, found[number], values, now_ms)
            if now_ms - self._expired_ms.get(topic, -_EXPIRE_EVERY_MS) >= _EXPIRE_EVERY_MS:
                self._expired_ms[topic] = now_ms
                for p in found:
                    expire(connection, p, now_ms)

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
