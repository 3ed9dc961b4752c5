"""A retraining and its record: why, from what, with which settings; the record alone says how to do it again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from anomaly.disk import replace_file
from anomaly.engine.frame import Frame
from anomaly.errors import DataError
from anomaly.feedback.labels import as_of
from anomaly.fleet import Fleet
from anomaly.registry.manifest import Deciding, model_digest, sha256
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label, VehicleEvent
from training.auto import train
from training.fit import Trained
from training.history import Split, split_vehicles
from training.loop.triggers import Trigger
from training.loop.windows import Spans, Windows, windows


class Sources(NamedTuple):
    """What there is to learn from: readings in order of time, and all events and labels, whenever they were told."""

    readings: Batch
    events: Sequence[VehicleEvent]
    labels: Sequence[Label]


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """Digests (hex SHA-256) of what was learned from, as it was known at the cutoff."""

    readings: str
    events: str
    labels: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`run/loop/<cycle>.json`: one retraining. `digest` is that of the model that came of it."""

    cycle: int
    trigger: Trigger
    cutoff: int
    seed: int
    fleet: str
    frame: str
    parent: str
    window_days: float
    holdout_days: float
    cap: float
    data: Data
    vehicles: int
    readings: int
    faults: int
    digest: str = ""

    @property
    def spans(self) -> Spans:
        """The windows' lengths."""
        return Spans(self.window_days, self.holdout_days, self.cap)


class Retrained(NamedTuple):
    """What came of it; `split` are the vehicles that were fitted and judged on."""

    record: Record
    trained: Trained
    past: Windows
    split: Split


def retrain(fleet: Fleet, sources: Sources, frame: Frame, asked: Record) -> Retrained:
    """Train as `asked` says: its cutoff, seed and windows, in the champion's `frame`. Answers the record filled in.

    The same sources, fleet file, frame and record give the same digest; what came after the cutoff changes nothing.
    """
    past = windows(fleet, sources.readings, (sources.events, sources.labels), asked.cutoff, asked.spans)
    training = past.training
    names = [training.names[code] for code in np.unique(training.codes)]
    split = split_vehicles(names, asked.seed, None)
    trained = train(fleet, training, split, asked.seed, frame)
    record = msgspec.structs.replace(
        asked,
        fleet=fleet.digest(),
        frame=frame.digest,
        data=data_digests(fleet, sources, asked.cutoff),
        vehicles=len(names),
        readings=len(training.batch),
        faults=len(training.faults),
        digest=digest_of(trained),
    )
    return Retrained(record, trained, past, split)


def repeat(fleet: Fleet, sources: Sources, frame: Frame, record: Record) -> Retrained:
    """The retraining of a record once more. Raises DataError where the data, fleet file or frame are not those."""
    found = {"data": data_digests(fleet, sources, record.cutoff), "fleet": fleet.digest(), "frame": frame.digest}
    other = [name for name, value in found.items() if getattr(record, name) != value]
    if other:
        raise DataError(
            f"cycle {record.cycle} cannot be repeated: {' and '.join(other)} are not those of its record; give the "
            "archive, labels and fleet file of then"
        )
    return retrain(fleet, sources, frame, record)


def data_digests(fleet: Fleet, sources: Sources, cutoff: int) -> Data:
    """Digests of what was known at the cutoff."""
    batch = sources.readings.rows(0, int(np.searchsorted(sources.readings.ts, cutoff + 1)))
    readings = hashlib.sha256(batch.ts.tobytes() + batch.values.tobytes())
    readings.update("\n".join(batch.vehicles).encode())
    for field in fleet.context_fields:
        readings.update("\n".join(map(str, batch.context[field])).encode())
    events = sorted(msgspec.json.encode(event) for event in sources.events if event.ts <= cutoff)
    labels = [msgspec.json.encode(label) for label in as_of(sources.labels, cutoff)]
    return Data(readings=readings.hexdigest(), events=sha256(b"\n".join(events)), labels=sha256(b"\n".join(labels)))


def digest_of(trained: Trained) -> str:
    """The digest that the registry will give the model."""
    decides = Deciding(trained.k, trained.q_fleet, trained.policy, trained.checks)
    return model_digest(trained.onnx, sha256(trained.frame.to_json()), decides)


def write_record(path: Path, record: Record) -> None:
    """Write the record, whole. Raises DataError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error


def read_record(path: Path) -> Record:
    """Read a record. Raises DataError if it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{path} is no record of a retraining: {error}") from error
