"""The scorer from the embedded log, everything on, beside River per event on the same messages."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.frame import Frame
from anomaly.engine.model import Model
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.metrics import Metrics
from anomaly.service.scorer import Options, Scorer
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.ports import Record
from anomaly.telemetry.encode import encode_readings
from benchmarks.river_per_event import RiverPerEvent
from benchmarks.stream import stream
from training.fit import fit
from training.history import make_history, split_vehicles
from training.train import Recipe, publish

VEHICLES, ROUNDS = 10_000, 40
RIVER_MESSAGES = 12_000
REPEATS = 3
TOPICS = ("telemetry", "vehicle-events", "labels", "alerts", "dead-letters")


class World(NamedTuple):
    """A folder with a registry, the fleet and its model, and the messages that are scored."""

    folder: Path
    fleet: Fleet
    registry: Registry
    frame: Frame
    model: Model
    messages: list[bytes]
    vehicles: Sequence[str]


def world(folder: Path) -> World:
    """Train the default model on a small fleet, and write the messages of a large one."""
    made = stream(200, 120, seed=1)
    history = make_history(made.fleet, made.batch, [], [], [])
    split = split_vehicles(history.names, 0, None)
    trained = fit(made.fleet, history, split, 0)
    registry = Registry(folder / "models")
    manifest = publish(registry, Recipe(made.fleet, history, split, 0), trained)
    model = Model(manifest.reference, manifest.digest, OnnxDetector(trained.onnx, trained.frame.signals), *trained[2:5])
    large = stream(VEHICLES, ROUNDS)
    messages = encode_readings(large.batch, made.fleet)
    return World(folder, made.fleet, registry, trained.frame, model, messages, large.batch.vehicles)


def fill(made: World, path: Path, partitions: int = 1) -> EmbeddedLog:
    """An embedded log that holds the messages."""
    log = EmbeddedLog(path)
    log.create_topics({made.fleet.topic(name): partitions for name in TOPICS}, retention_ms=-1)
    sink = log.sink()
    records = [Record(who.encode(), message) for who, message in zip(made.vehicles, made.messages, strict=True)]
    for start in range(0, len(records), 10_000):
        sink.send(made.fleet.topic("telemetry"), records[start : start + 10_000])
    sink.close()
    return log


def score_once(made: World, log: EmbeddedLog, run: Path) -> float:
    """CPU seconds of the scorer over the whole log, from opening its stores to the last checkpoint."""
    started_s = time.process_time()
    Scorer(made.fleet, log, made.registry, Options(run, "bench", stop_at_end=True), Metrics()).run()
    return time.process_time() - started_s


def river_once(made: World) -> float:
    """CPU seconds a reading of River per event, warm: after each vehicle's burn-in."""
    few = 300
    chosen = [m for m, who in zip(made.messages, made.vehicles, strict=True) if int(who[3:]) < few][:RIVER_MESSAGES]
    peer = RiverPerEvent(made.frame, made.model)
    warm = few * (made.frame.burn_in + 1)
    peer.run(chosen[:warm])
    started_s = time.process_time()
    peer.run(chosen[warm:])
    return (time.process_time() - started_s) / max(len(chosen) - warm, 1)


class Row(msgspec.Struct):
    """A line of the table: readings a second of CPU of ours and of the peer, and the ratio."""

    what: str
    ours_per_s: float
    peer: str
    peer_per_s: float
    ratio: float


def run(made: World) -> list[Row]:
    """Medians of interleaved repeats."""
    folder = Path(tempfile.mkdtemp(prefix="anomaly-bench-"))
    try:
        log = fill(made, folder / "fleet.db")
        ours, theirs = [], []
        for repeat in range(REPEATS):
            ours.append(score_once(made, log, folder / f"run{repeat}") / len(made.messages))
            theirs.append(river_once(made))
        log.close()
        us, them = 1 / median(ours), 1 / median(theirs)
        return [Row("embedded log to decisions, everything on", us, "River per event", them, us / them)]
    finally:
        shutil.rmtree(folder)
