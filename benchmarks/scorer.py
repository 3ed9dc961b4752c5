"""The embedded log: how fast messages are written to it, and scored from it with everything on."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from anomaly.service.metrics import Metrics
from anomaly.service.scorer import Options, Scorer
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.ports import Record
from benchmarks.goals import Row
from benchmarks.stream import Feed, as_json, name_of
from benchmarks.timing import cpu_ns
from benchmarks.world import World, Worlds

VEHICLES, MESSAGES = 10_000, 800_000
PIECE = 10_000
REPEATS = 3
TOPICS = ("telemetry", "vehicle-events", "labels", "alerts", "dead-letters")


def records(feed: Feed, count: int) -> list[Record]:
    """The next readings of a stream, one a message, keyed by vehicle."""
    readings = feed.take(count)
    keys = (name_of(who).encode() for who in readings.who.tolist())
    return list(map(Record, keys, as_json(readings)))


def run(worlds: Worlds) -> list[Row]:
    """Append in pieces of 10,000, then score the whole log as new groups, medians of repeats."""
    world = worlds["wide"]
    folder = Path(tempfile.mkdtemp(prefix="anomaly-bench-"))
    try:
        log = EmbeddedLog(folder / "fleet.db")
        log.create_topics({world.fleet.topic(name): 1 for name in TOPICS}, retention_ms=-1)
        appended = append(world, log)
        log.close()
        found = [score(world, folder, f"run{repeat}") for repeat in range(REPEATS)]
        cpu_s, wall_s = (median(values) for values in zip(*found, strict=True))
        note = f"wall {MESSAGES / wall_s:,.0f}/s; archive, decision log and the burn-in of all vehicles included"
        return [Row("log-append", appended), Row("log-score", MESSAGES / cpu_s, note=note)]
    finally:
        shutil.rmtree(folder)


def append(world: World, log: EmbeddedLog) -> float:
    """Messages a second of CPU of `Sink.send`, over the whole stream."""
    sink, feed, topic = log.sink(), Feed(VEHICLES, len(world.fleet.signals)), world.fleet.topic("telemetry")
    used_ns = []
    for _ in range(MESSAGES // PIECE):
        messages: Sequence[Record] = records(feed, PIECE)
        used_ns.append(cpu_ns(lambda: sink.send(topic, messages)))  # noqa: B023
    sink.close()
    return PIECE * 1e9 / median(used_ns)


def score(world: World, folder: Path, run: str) -> tuple[float, float]:
    """CPU and wall seconds of the scorer over the whole log, from opening its store to the last checkpoint."""
    log = EmbeddedLog(folder / "fleet.db")
    options = Options(folder / run, run, stop_at_end=True)
    scorer = Scorer(world.fleet, log, world.registry, options, Metrics())
    started_s = time.monotonic()
    used_ns = cpu_ns(scorer.run)
    wall_s = time.monotonic() - started_s
    log.close()
    return used_ns / 1e9, wall_s
