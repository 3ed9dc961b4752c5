"""Labels from files of other systems: all rows good or nothing taken, unless the good ones are asked for."""

from __future__ import annotations

from pathlib import Path

import msgspec

from anomaly.errors import DataError
from anomaly.feedback.labels import LabelStore
from anomaly.fleet import Fleet
from anomaly.telemetry.files import inspect_labels


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file's rows; `refused` has a line for each that could not be used."""

    added: int
    known: int
    refused: list[str]


def bring_in(path: Path, fleet: Fleet, folder: Path, *, partial: bool, dry_run: bool) -> Imported:
    """Add the labels of `path` to those in `folder`/labels. A label that is there already is not added again.

    Raises DataError for a file that cannot be read, and, unless `partial` or `dry_run`, for one with a bad row;
    nothing is written then.
    """
    labels, problems = inspect_labels(path, fleet)
    if problems and not (partial or dry_run):
        lines = [f"{path}:", *problems, f"nothing was taken; --partial takes the {len(labels)} good rows"]
        raise DataError("\n  ".join(lines))
    store = LabelStore(folder / "labels")
    distinct = set(labels)
    added = len(distinct - set(store.read())) if dry_run else store.add(labels)
    return Imported(added=added, known=len(distinct) - added, refused=problems)
