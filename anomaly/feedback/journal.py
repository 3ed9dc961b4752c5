"""What was told to a run, kept for good: a file of JSON lines that is only ever added to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import msgspec

from anomaly.errors import DataError
from anomaly.telemetry.typed import Failure

Record = TypeVar("Record", bound=msgspec.Struct)
Decode = Callable[[Sequence[bytes]], tuple[list[Record], list[Failure]]]


class Journal(Generic[Record]):
    """Records of one kind, one line each in `path`; `decode` reads lines, and says which are none.

    Any number of processes of a machine may add; a line that a crash cut short does not count. A record that is there
    is not added again; where `looks_back` is given, only so many bytes at the end are looked through for it.
    """

    def __init__(self, path: Path, decode: Decode[Record], looks_back: int | None = None) -> None:
        self.path = path
        self._decode = decode
        self._looks_back = looks_back

    def add(self, records: Sequence[Record]) -> int:
        """Write down those of `records` that are not there yet; answers how many. Raises DataError if it cannot."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked() as file:
                size = os.fstat(file.fileno()).st_size
                first = 0 if self._looks_back is None else max(0, size - self._looks_back)
                file.seek(first)
                content = file.read()
                whole = content.rfind(b"\n") + 1
                known = set(content[:whole].splitlines())
                new = [line for line in dict.fromkeys(map(msgspec.json.encode, records)) if line not in known]
                file.truncate(first + whole)
                file.seek(first + whole)
                file.write(b"".join(line + b"\n" for line in new))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror or error}") from error
        return len(new)

    def read(self) -> list[Record]:
        """All records in the order in which they came. Raises DataError for a line that is none."""
        if not self.path.exists():
            return []
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from error
        records, failures = self._decode(content[: content.rfind(b"\n") + 1].splitlines())
        if failures:
            first = failures[0]
            raise DataError(f"{self.path}, line {first.position + 1}: {first.reason}; mend or remove it")
        return records

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """The file for reading and writing, for this process alone."""
        with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
