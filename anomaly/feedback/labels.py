"""Labels as they were known at a moment: corrections replace, nothing is forgotten."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from anomaly.errors import DataError
from anomaly.telemetry.decode_records import decode_labels
from anomaly.telemetry.records import Label

CONFIRMED = frozenset({"fault", "fixed"})
"""Verdicts that say that there was a fault from `from` to `to`."""


def as_of(labels: Sequence[Label], cutoff: int | None = None) -> list[Label]:
    """The labels that held at `cutoff`, in order of vehicle and time; None: all that was ever said.

    A label counts if `reported_at` <= cutoff; without `reported_at` it was known from the start. Of several
    with the same vehicle, window and source the last report holds; of equal reports the last one given.
    """
    current: dict[tuple[str, int, int, str], Label] = {}
    for label in labels:
        if cutoff is not None and label.reported_at is not None and label.reported_at > cutoff:
            continue
        key = (label.vehicle, label.start, label.end, label.source)
        before = current.get(key)
        if before is None or _reported(label) >= _reported(before):
            current[key] = label
    return [current[key] for key in sorted(current)]


def label_id(label: Label) -> str:
    """The id of a label and of all its corrections: 16 hex digits of its vehicle, window and source."""
    key = msgspec.json.encode([label.vehicle, label.start, label.end, label.source])
    return hashlib.blake2b(key, digest_size=8).hexdigest()


def _reported(label: Label) -> float:
    return float("-inf") if label.reported_at is None else label.reported_at


class LabelStore:
    """All labels that were ever brought in, one JSON line each in `labels.jsonl` of `folder`; only ever added to.

    Any number of processes of a machine may add; a line that a crash cut short does not count.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "labels.jsonl"

    def add(self, labels: Sequence[Label]) -> int:
        """Write down those of `labels` that are not there yet; answers how many. Raises DataError if it cannot."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked() as file:
                content = file.read()
                whole = content.rfind(b"\n") + 1
                known = set(content[:whole].splitlines())
                new = [line for line in dict.fromkeys(map(msgspec.json.encode, labels)) if line not in known]
                file.truncate(whole)
                file.seek(whole)
                file.write(b"".join(line + b"\n" for line in new))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror or error}") from error
        return len(new)

    def read(self) -> list[Label]:
        """All labels in the order in which they came. Raises DataError for a line that is no label."""
        if not self.path.exists():
            return []
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from error
        labels, failures = decode_labels(content[: content.rfind(b"\n") + 1].splitlines())
        if failures:
            first = failures[0]
            raise DataError(f"{self.path}, line {first.position + 1}: {first.reason}; mend or remove it")
        return labels

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """The file for reading and writing, for this process alone."""
        with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
