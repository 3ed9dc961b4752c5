"""A million vehicles: memory, checkpoints as the service writes them, and what they stop the stream for.

Each part runs in a process of its own: `python -m benchmarks.memory PART FOLDER`, which prints JSON.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from anomaly.service.metrics import Metrics
from anomaly.service.partition import PartitionScorer, Shared
from anomaly.service.rollout import Rollouts
from anomaly.service.store import PartitionStore
from anomaly.service.stored import Identity, StoreReader, store_paths
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.ports import Block, Record
from anomaly.telemetry.decode import Decoder
from benchmarks.goals import Row
from benchmarks.stream import Feed, as_batch, as_json, name_of
from benchmarks.timing import child, cpu_ns, quiet, status_kb
from benchmarks.world import BATCH, Way, World, Worlds, load

MILLION, HALF = 1_000_000, 500_000
PIECE = 65_536
REPEATS, CHECKPOINTS, BATCHES = 3, 150, 16
TOPICS = ("telemetry", "vehicle-events", "labels", "alerts", "dead-letters")


class Spent(NamedTuple):
    """CPU and wall time of one piece of work, milliseconds."""

    cpu_ms: float
    wall_ms: float


def run(worlds: Worlds) -> list[Row]:
    """All rows; one process after the other."""
    folders = {name: worlds[name].folder for name in ("default", "wide")}
    rows = [Row(f"bytes-{name}", child("memory", "bytes", folder)) for name, folder in folders.items()]
    resident = child("memory", "resident", folders["default"])
    rows.append(Row("resident", resident["gb"], note="read, scored and checkpointed from the embedded log"))
    stored = child("memory", "checkpoints", folders["wide"])
    for key, unit_ms in (("checkpoint-all", 1e3), ("restore", 1e3), ("checkpoint-part", 1.0)):
        cpu, wall = stored[key]
        rows.append(Row(key, cpu / unit_ms, note=f"wall {wall / unit_ms:.3g}"))
    for key, part in (("pause-growth", "growth"), ("pause-checkpoint", "pauses")):
        found = child("memory", part, folders["wide"])
        rows.append(Row(key, found["wall_ms"], note=f"wall; CPU {found['cpu_ms']:.3g} ms; {found['note']}"))
    return rows


def bytes_a_vehicle(world: World) -> float:
    """Resident bytes that a vehicle adds, from the first 65,536 to a million: state, ids and the table of slots."""
    way = Way(world, Feed(MILLION, len(world.fleet.signals)))
    before_kb, known = 0, 0
    for place, count in enumerate(way.feed.rounds(1, 8_192)):
        way.engine.decide(as_batch(way.feed.take(count)))
        known += count
        if place == 7:
            before_kb, first = _resident_kb(), known
    return 1_024 * (_resident_kb() - before_kb) / (known - first)


def _resident_kb() -> int:
    gc.collect()
    return status_kb("RssAnon")


def resident(world: World) -> dict[str, float]:
    """The highest resident memory of `anomaly score` over two readings of a million vehicles, and its CPU a reading."""
    with tempfile.TemporaryDirectory(prefix="anomaly-bench-") as name:
        child("memory", "fill", world.folder, name)
        told = ["--config", world.folder / "fleet.toml", "--models", world.folder / "models", "--log", "fleet.db"]
        command = [sys.executable, "-m", "anomaly.cli.main", "score", *told, "--dir", "run", "--metrics-port", "0"]
        with subprocess.Popen([*map(str, command)], cwd=name, stderr=subprocess.DEVNULL) as process:
            try:
                while not _scored(Path(name, "run")):
                    time.sleep(0.2)
                gb = status_kb("VmHWM", process.pid) * 1_024 / 1e9
                ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            finally:
                process.terminate()
    return {"gb": gb, "ns": sum(map(int, ticks[11:13])) / os.sysconf("SC_CLK_TCK") * 1e9 / 2 / MILLION}


def _scored(run: Path) -> bool:
    """Whether everything is scored and written down."""
    return any(StoreReader(path).offset() == 2 * MILLION for path in store_paths(run))


def fill(world: World, folder: Path) -> None:
    """An embedded log with two readings of each vehicle."""
    log = EmbeddedLog(folder / "fleet.db")
    log.create_topics({world.fleet.topic(topic): 1 for topic in TOPICS}, retention_ms=-1)
    sink, feed = log.sink(), Feed(MILLION, len(world.fleet.signals))
    for count in feed.rounds(2, 10_000):
        readings = feed.take(count)
        keys = (name_of(who).encode() for who in readings.who.tolist())
        sink.send(world.fleet.topic("telemetry"), list(map(Record, keys, as_json(readings))))
    sink.close()
    log.close()


class Partition:
    """One partition as the scorer drives it: blocks in, checkpoints out, on a store in `folder`."""

    def __init__(self, world: World, folder: Path, vehicles: int) -> None:
        archive = msgspec.structs.replace(world.fleet.log, archive="none")
        self.fleet = msgspec.structs.replace(world.fleet, log=archive)
        self._world, self._folder = world, folder
        self.feed = Feed(vehicles, len(world.fleet.signals))
        self._offset = 0
        self.scorer = self.open()

    def open(self) -> PartitionScorer:
        """Go on where the store in the folder is."""
        rollout, frame = Rollouts(self._world.registry, self.fleet.name, self._folder).read()
        store = PartitionStore(self._folder / "store.db", Identity(self.fleet.digest(), frame.digest))
        topic, decoder = self.fleet.topic("telemetry"), Decoder(self.fleet)
        shared = Shared(self.fleet, frame, self._folder, "bench", topic, decoder, Metrics(), {})
        return PartitionScorer(shared, 0, store, rollout)

    def process(self, count: int) -> Spent:
        """Decide the next readings of the stream; what it took, the messages apart."""
        messages = as_json(self.feed.take(count))
        block = Block(0, np.arange(self._offset, self._offset + count), messages)
        self._offset += count
        return spent(lambda: self.scorer.process(block, time.monotonic()))

    def all_once(self) -> None:
        """A reading of every vehicle."""
        for count in self.feed.rounds(1, PIECE):
            self.process(count)

    def checkpoint(self) -> Spent:
        """Write down all since the last one."""
        return spent(lambda: self.scorer.checkpoint(time.monotonic()))


def spent(work: Callable[[], object]) -> Spent:
    """CPU and wall time of one call."""
    started_s = time.perf_counter()
    cpu = cpu_ns(work)
    return Spent(cpu / 1e6, (time.perf_counter() - started_s) * 1e3)


def _median(found: list[Spent]) -> Spent:
    return Spent(*(float(np.median(values)) for values in zip(*found, strict=True)))


def checkpoints(world: World, folder: Path) -> dict[str, Spent]:
    """Checkpoints of a million vehicles: all changed, one in a hundred; and a start from such a store."""
    made = Partition(world, folder, MILLION)
    every, part, restored = [], [], []
    for _ in range(REPEATS):
        made.all_once()
        every.append(made.checkpoint())
        for _ in range(REPEATS):
            made.process(MILLION // 100)
            part.append(made.checkpoint())
    for _ in range(REPEATS):
        engine = world.engine()
        restored.append(spent(lambda: engine.apply(made.scorer.store.state())))  # noqa: B023
    return {"checkpoint-all": _median(every), "checkpoint-part": _median(part), "restore": _median(restored)}


def growth(world: World, folder: Path) -> dict[str, object]:
    """The longest batch while 500,000 vehicles join as many that are there, in batches of 1,024."""
    made = Partition(world, folder, MILLION)
    with quiet():
        found = [made.process(count) for count in made.feed.rounds(1, BATCH)]
    later = found[len(found) // 2 :]
    worst = max(later, key=lambda spent: spent.wall_ms)
    usual = _median(later)
    return {"wall_ms": worst.wall_ms, "cpu_ms": max(s.cpu_ms for s in later), "note": f"usual {usual.wall_ms:.2f} ms"}


def pauses(world: World, folder: Path) -> dict[str, object]:
    """Checkpoints a second apart where each of a million vehicles sends once a minute, p99 of their length."""
    made = Partition(world, folder, MILLION)
    made.all_once()
    made.checkpoint()
    found = []
    for _ in range(CHECKPOINTS):
        for _ in range(BATCHES):
            made.process(BATCH)
        found.append(made.checkpoint())
    cpu, wall = (float(np.quantile(values, 0.99)) for values in zip(*found, strict=True))
    return {"wall_ms": wall, "cpu_ms": cpu, "note": f"median {_median(found).wall_ms:.1f} ms, 1.6 % changed"}


def main(part: str, world: World, target: Path | None) -> object:
    """One part by its name."""
    if part == "fill" and target is not None:
        fill(world, target)
        return None
    if part in ("bytes", "resident"):
        return {"bytes": bytes_a_vehicle, "resident": resident}[part](world)
    with tempfile.TemporaryDirectory(prefix="anomaly-bench-") as name:
        return {"checkpoints": checkpoints, "growth": growth, "pauses": pauses}[part](world, Path(name))


if __name__ == "__main__":
    found = main(sys.argv[1], load(Path(sys.argv[2])), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
    print(json.dumps(found))
