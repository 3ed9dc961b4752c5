"""Labels as they were known at a moment: corrections replace, nothing is forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from anomaly.feedback.journal import Journal
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


class LabelStore(Journal[Label]):
    """All labels that were ever brought in, in `labels.jsonl` of `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "labels.jsonl", decode_labels)
