"""A folder of JSONL files as a log: `<folder>/<topic>.jsonl`, one message a line, one partition, offset = line.

For raw messages kept in files. A single file is a log of one topic, named after it. Our own writers and readers
keep out of each other's way by a lock on the file, so that no half line is ever read.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from anomaly.errors import DataError, PeerError
from anomaly.stream.offsets import First, Span, gone, no_topic, starting_offset
from anomaly.stream.ports import Block, Owner, Record, Topic

_SUFFIX = ".jsonl"
_IDLE_S = 0.01


class FileLog:
    """The topics in `path`, a folder, or a single file ending in `.jsonl`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create_topics(
        self, partitions: Mapping[str, int], retention_ms: int, compacted: Collection[str] = (), replication: int = 1
    ) -> list[str]:
        """Create empty files for the missing topics; each has one partition and is kept for ever."""
        del retention_ms, compacted, replication
        made = [name for name in partitions if not self._file(name).exists()]
        with _errors(self.path):
            for name in made:
                self._file(name).parent.mkdir(parents=True, exist_ok=True)
                self._file(name).touch()
        return made

    def topic(self, name: str) -> Topic | None:
        """The topic as it is now, None if there is no such file."""
        file = self._file(name)
        return Topic(name, 1, [0], [_count(file)]) if file.is_file() else None

    def retention_ms(self, topic: str) -> int:
        """Files are kept for ever."""
        self.existing(topic)
        return -1

    def source(self, topic: str, group: str, owner: Owner, first: First) -> FileSource:
        """The lines of `topic`; files know no groups."""
        del group
        return FileSource(topic, self.existing(topic), owner, first)

    def reader(self, topic: str, positions: Mapping[int, int]) -> FileReader:
        """The whole of `topic` from `positions` on."""
        return FileReader(self.existing(topic), positions)

    def sink(self) -> FileSink:
        """Appends lines."""
        return FileSink(self)

    def close(self) -> None:
        """Nothing is held."""

    def _file(self, topic: str) -> Path:
        if self.path.suffix != _SUFFIX:
            return self.path / f"{topic}{_SUFFIX}"
        return self.path if topic == self.path.stem else self.path.with_name(f"{topic}{_SUFFIX}")

    def existing(self, topic: str) -> Path:
        """The file of `topic`; PeerError if there is none."""
        if not self._file(topic).is_file():
            raise no_topic(topic, str(self.path))
        return self._file(topic)


class _Lines:
    """Reads whole lines from line `offset` on."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._number = 0
        self._unended = False
        with _errors(path):
            self._file = path.open("rb")
            with _locked(self._file, fcntl.LOCK_SH):
                while self._number < offset and (line := self._file.readline()):
                    self._unended = line[-1:] != b"\n"
                    self._number += 1

    @property
    def offset(self) -> int:
        """The number of the next line."""
        return self._number

    def take(self, limit: int | None) -> Block | None:
        """Up to `limit` lines without their line ends; None if there are none."""
        values: list[bytes] = []
        with _errors(self._path), _locked(self._file, fcntl.LOCK_SH):
            if self._unended and self._file.read(1) not in (b"", b"\n"):
                self._file.seek(-1, os.SEEK_CUR)
            while (limit is None or len(values) < limit) and (line := self._file.readline()):
                self._unended = line[-1:] != b"\n"
                values.append(line.removesuffix(b"\n"))
        if not values:
            return None
        start, self._number = self._number, self._number + len(values)
        return Block(0, np.arange(start, self._number, dtype=np.int64), values)

    def close(self) -> None:
        self._file.close()


class FileSource:
    """A file's lines as they come; see `ports.Source`."""

    def __init__(self, topic: str, path: Path, owner: Owner, first: First) -> None:
        self._topic = topic
        self._path = path
        self._owner = owner
        self._first = first
        self._lines: _Lines | None = None
        self._paused = False

    def poll(self, max_messages: int, timeout_s: float) -> list[Block]:
        """The next lines, at most `max_messages`; waits up to `timeout_s` for the first."""
        until = time.monotonic() + timeout_s
        if self._lines is None:
            self._lines = self._assign()
        while True:
            block = None if self._paused else self._lines.take(max_messages)
            left = until - time.monotonic()
            if block or left <= 0:
                return [block] if block else []
            time.sleep(min(_IDLE_S, left))

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Nothing to tell."""

    def committed(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Nothing: there is no group that could have been told."""
        del partitions
        return {}

    def lag(self) -> Mapping[int, int]:
        """Lines that are still to read."""
        return {0: _count(self._path) - self._lines.offset} if self._lines else {}

    def pause(self, partitions: Sequence[int]) -> None:
        """Read nothing until `resume`."""
        self._paused = self._paused or 0 in partitions

    def resume(self, partitions: Sequence[int]) -> None:
        """Read again."""
        self._paused = self._paused and 0 not in partitions

    def close(self) -> None:
        """Give the partition up."""
        lines, self._lines = self._lines, None
        if lines is not None:
            lines.close()
            self._owner.revoked([0])

    def _assign(self) -> _Lines:
        stored = self._owner.assigned([0]).get(0)
        span = Span(0, _count(self._path))
        return _Lines(self._path, starting_offset(self._topic, 0, stored, self._first, span))


class FileReader:
    """A whole file; see `ports.Reader`."""

    def __init__(self, path: Path, positions: Mapping[int, int]) -> None:
        span = Span(0, _count(path))
        if positions.get(0, 0) > span.end:
            raise gone(path.stem, 0, positions[0], span)
        self._lines = _Lines(path, positions.get(0, 0))

    def read_to_end(self) -> list[Block]:
        """All lines that came since the last call."""
        block = self._lines.take(None)
        return [block] if block else []

    @property
    def positions(self) -> Mapping[int, int]:
        """The number of the next line."""
        return {0: self._lines.offset}

    def close(self) -> None:
        """Let go of the file."""
        self._lines.close()


class FileSink:
    """Appends messages as lines and syncs them; see `ports.Sink`."""

    def __init__(self, log: FileLog) -> None:
        self._log = log

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Append `records`. DataError for a message with a line break, and for a full disk."""
        if any(b"\n" in record.value for record in records):
            raise DataError(
                f"{topic}: a message with a line break does not fit a {_SUFFIX} file, which is for JSON; nothing was "
                "written; keep MessagePack and Arrow in an embedded log (`--log FILE.db`) or in Kafka"
            )
        if any(record.partition for record in records):
            raise PeerError(f"{topic}: a {_SUFFIX} file has partition 0 alone")
        path = self._log.existing(topic)
        lines = b"".join(record.value + b"\n" for record in records)
        with _errors(path), path.open("r+b", buffering=0) as file, _locked(file, fcntl.LOCK_EX):
            end = file.seek(0, os.SEEK_END)
            try:
                _write(file, lines if _ends_line(file, end) else b"\n" + lines)
            except OSError:
                file.truncate(end)
                raise

    def close(self) -> None:
        """Nothing is held."""


def _write(file: BinaryIO, lines: bytes) -> None:
    view = memoryview(lines)
    while view:
        view = view[file.write(view) :]
    os.fsync(file.fileno())


def _ends_line(file: BinaryIO, end: int) -> bool:
    if end == 0:
        return True
    file.seek(end - 1)
    return file.read(1) == b"\n"


def _count(path: Path) -> int:
    """Lines of a file; a last one without a line end counts."""
    count, last = 0, b"\n"
    with _errors(path), path.open("rb") as file, _locked(file, fcntl.LOCK_SH):
        while chunk := file.read(1 << 20):
            count, last = count + chunk.count(b"\n"), chunk[-1:]
    return count + (last != b"\n")


@contextmanager
def _locked(file: BinaryIO, how: int) -> Iterator[None]:
    fcntl.flock(file, how)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; nothing of this was written") from error
