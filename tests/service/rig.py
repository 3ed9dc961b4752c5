"""A small fleet on an embedded log, ready to be scored: model, topics, readings, events, and what must come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from anomaly import settings
from anomaly.engine.frame import Frame
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.rows import read_archive, read_decisions
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.ports import Record
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.encode import encode_readings
from anomaly.telemetry.records import VehicleEvent
from tests.detectors.onnx_files import SIGNALS, distance
from tests.registry.stock import manifest

DAY_MS = 86_400_000
FLEET = """
[fleet]
name = "bus"
vehicle = "vehicle"
time = "ts"
time_unit = "s"
[signals.a]
[signals.b]
max = 90.0
[signals.c]
[baseline]
burn_in = 6
[alerts]
gap = 3
[log]
decisions = "all"
cut_every_mb = 0.02
[stream]
batch = 64
partitions = 2
checkpoint_every_s = 3600
checkpoint_every_readings = 150
"""
FRAME = Frame(
    signals=SIGNALS, regime=(), center=((),), scale=(), mean=((0.0, 10.0, -5.0),), sd=((1.0, 2.0, 1.0),),
    prior=(0.0, 0.0, 0.0), gain=((0.9, 0.0, 0.0), (0.0, 0.8, 0.0), (0.0, 0.0, 0.7)), burn_in=6, time_constant=5,
)  # fmt: skip


class Rig(NamedTuple):
    """Where things are."""

    folder: Path
    fleet: Fleet
    registry: Registry

    @property
    def log_path(self) -> Path:
        """The embedded log."""
        return self.folder / "fleet.db"

    def log(self) -> EmbeddedLog:
        """Open the log."""
        return EmbeddedLog(self.log_path)

    def messages(self, topic: str) -> list[tuple[int, int, bytes]]:
        """(partition, offset, value) of all messages of a topic."""
        log = self.log()
        reader = log.reader(self.fleet.topic(topic), {})
        blocks = reader.read_to_end()
        reader.close()
        log.close()
        return [(b.partition, o, v) for b in blocks for o, v in zip(b.offsets.tolist(), b.values, strict=True)]

    def send(self, topic: str, records: list[Record]) -> None:
        """Write messages."""
        log = self.log()
        sink = log.sink()
        sink.send(self.fleet.topic(topic), records)
        sink.close()
        log.close()


def publish(registry: Registry, scale: float = 1.0, frame: Frame = FRAME, k: float = 3.0) -> int:
    """Put a model of the fleet into the registry."""
    files = {"model.onnx": distance(scale=scale, contribution=True), "card.md": b"# Bus\n"}
    return registry.publish("bus", files, manifest(k=k, q_fleet=1.5), frame.to_json())


def make_rig(folder: Path, models: Path, text: str = FLEET) -> Rig:
    """A log with empty topics beside a registry."""
    fleet = settings.parse(text, Fleet, "fleet.toml")
    (folder / "fleet.toml").write_text(text)
    rig = Rig(folder, fleet, Registry(models))
    log = rig.log()
    names = ("telemetry", "vehicle-events", "labels", "alerts", "dead-letters")
    counts = {fleet.topic(name): fleet.stream.partitions if name == "telemetry" else 1 for name in names}
    log.create_topics(counts, DAY_MS)
    log.close()
    return rig


def readings(vehicles: int = 12, each: int = 60, seed: int = 0) -> Batch:
    """Healthy readings; every third vehicle drifts away after its first half."""
    rng = np.random.default_rng(seed)
    count = vehicles * each
    who = np.arange(count) % vehicles
    values = np.array(FRAME.mean[0]) + np.array(FRAME.sd[0]) * rng.normal(size=(count, 3))
    drift = np.clip(np.arange(count) // vehicles - each // 2, 0, 8) * (who % 3 == 0)
    values[:, 0] += drift
    ts = 1_700_000_000 + 60 * (np.arange(count) // vehicles)
    context = {"region": ["north" if number % 2 else None for number in who]}
    return Batch.of([f"v{n}" for n in who], ts, values.astype(np.float32), context, np.arange(count))


def fill(rig: Rig, batch: Batch, poison_every: int = 50) -> None:
    """Put readings onto the log with some broken messages, and two services that start baselines again."""
    records = []
    for row, value in enumerate(encode_readings(batch, rig.fleet)):
        records.append(Record(batch.vehicles[row].encode(), value))
        if row % poison_every == poison_every - 1:
            records.append(Record(b"v1", b"{broken %d" % row))
    times = sorted(set(batch.ts.tolist()))
    events = [
        VehicleEvent(id="e1", vehicle="v0", ts=times[len(times) // 3], kind="service"),
        VehicleEvent(id="e2", vehicle="v3", ts=times[-len(times) // 4], kind="firmware"),
    ]
    rig.send("vehicle-events", [Record(b"", msgspec.json.encode(event)) for event in events] + [Record(b"", b"?")])
    rig.send("telemetry", records)


class Seen(NamedTuple):
    """What came of a run: decisions and archived readings as rows, alerts and dead letters without repeats.

    `repeats` is the number of letters that were dropped because they were there before.
    """

    decisions: list[dict[str, Any]]
    archived: list[dict[str, Any]]
    alerts: list[bytes]
    dead_letters: list[bytes]
    repeats: int


def seen(rig: Rig, folder: Path) -> Seen:
    """Read what a run wrote, in an order that does not depend on how it went."""
    order = [("partition", "ascending"), ("offset", "ascending")]
    rows = [table.sort_by(order).to_pylist() for table in (read_decisions(folder), read_archive(folder, rig.fleet))]
    sent = {name: [value for _, _, value in rig.messages(name)] for name in ("alerts", "dead-letters")}
    once = {name: list(dict.fromkeys(values)) for name, values in sent.items()}
    repeats = sum(len(sent[name]) - len(once[name]) for name in sent)
    return Seen(rows[0], rows[1], _by_vehicle(once["alerts"]), sorted(once["dead-letters"]), repeats)


def _by_vehicle(alerts: list[bytes]) -> list[bytes]:
    """Alerts of one vehicle keep their order; which vehicle's came first depends on partitions' turns."""
    return sorted(alerts, key=lambda value: msgspec.json.decode(value)["subject"]["vehicle"])
