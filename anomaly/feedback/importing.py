"""Labels from files of other systems: all rows good or nothing taken, unless the good ones are asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec

from anomaly.errors import DataError
from anomaly.feedback.foreign import Row, Translation, rows_of
from anomaly.feedback.labels import CONFIRMED, LabelStore
from anomaly.fleet import Fleet
from anomaly.telemetry.decode_records import label_problem
from anomaly.telemetry.files import inspect_labels
from anomaly.telemetry.records import Label, Verdict
from anomaly.telemetry.typed import plain_reason

WORDS = f"one of {', '.join(get_args(Verdict))}; [verdicts] in a mapping file translates others (--mapping)"


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file's rows; `refused` has a line for each that could not be used."""

    added: int
    known: int
    refused: list[str]


class Take(NamedTuple):
    """How a file is taken: its `translation`, and whether good rows are taken alone or nothing is written.

    `vehicles` are those that the run has readings of (None: it has none yet); labels of others are refused.
    """

    translation: Translation = Translation()
    vehicles: Collection[str] | None = None
    partial: bool = False
    dry_run: bool = False


def bring_in(path: Path, fleet: Fleet, folder: Path, take: Take) -> Imported:
    """Add the labels of `path` to those in `folder`/labels. A label that is there already is not added again.

    Raises DataError for a file that cannot be read, and, unless partial or dry, for one with a bad row;
    nothing is written then.
    """
    labels, problems = read(path, fleet, take)
    if problems and not (take.partial or take.dry_run):
        lines = [f"{path}:", *problems, f"nothing was taken; --partial takes the {len(labels)} good rows"]
        raise DataError("\n  ".join(lines))
    store = LabelStore(folder / "labels")
    distinct = set(labels)
    added = len(distinct - set(store.read())) if take.dry_run else store.add(labels)
    return Imported(added=added, known=len(distinct) - added, refused=problems)


def read(path: Path, fleet: Fleet, take: Take) -> tuple[list[Label], list[str]]:
    """The labels of a file that can be used, and a line for each row that cannot, in order."""
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        found, problems = inspect_labels(path, fleet)
        good = {f"label {number}": label for number, label in enumerate(found, start=1)}
    else:
        good, problems = _converted(rows_of(path, fleet, take.translation))
    refused = dict(_unknown(good, take.vehicles)) | dict(_contradicting(good))
    problems += [f"{place}: {reason}" for place, reason in refused.items()]
    return [label for place, label in good.items() if place not in refused], sorted(problems, key=_line)


def _line(problem: str) -> int:
    digits = problem.partition(":")[0].rpartition(" ")[2]
    return int(digits) if digits.isdigit() else 0


def _converted(rows: Iterable[Row]) -> tuple[dict[str, Label], list[str]]:
    good: dict[str, Label] = {}
    problems = []
    for row in rows:
        place, reason = f"line {row.line}", row.problem
        if reason is None:
            try:
                label = msgspec.convert(row.fields, Label)
            except msgspec.ValidationError as error:
                reason = plain_reason(error)
                if reason.startswith("verdict: "):
                    reason = f"verdict: unknown word `{row.fields['verdict']}`; {WORDS}"
            else:
                reason = label_problem(label)
                good |= {} if reason else {place: label}
        if reason is not None:
            problems.append(f"{place}: {reason}")
    return good, problems


def _unknown(labels: Mapping[str, Label], vehicles: Collection[str] | None) -> Iterator[tuple[str, str]]:
    for place, label in labels.items():
        if vehicles is not None and label.vehicle not in vehicles:
            yield place, f"vehicle: {label.vehicle} has sent no reading; write it as the stream does"


def _contradicting(labels: Mapping[str, Label]) -> Iterator[tuple[str, str]]:
    """Labels of one file that say of the same time that there was a fault and that there was none.

    A later report about the same window is a correction, and no contradiction.
    """
    by_who: dict[tuple[str, str], list[tuple[str, Label]]] = defaultdict(list)
    for place, label in labels.items():
        for other_place, other in by_who[label.vehicle, label.source]:
            if _contradicts(label, other):
                yield place, f"verdict: {label.verdict}, and {other.verdict} in {other_place}, of the same time"
                yield other_place, f"verdict: {other.verdict}, and {label.verdict} in {place}, of the same time"
        by_who[label.vehicle, label.source].append((place, label))


def _contradicts(one: Label, other: Label) -> bool:
    verdicts = {one.verdict, other.verdict}
    overlap = one.start <= other.end and other.start <= one.end
    corrects = (one.start, one.end) == (other.start, other.end) and one.reported_at != other.reported_at
    return overlap and not corrects and bool(verdicts & CONFIRMED) and "no_fault" in verdicts
