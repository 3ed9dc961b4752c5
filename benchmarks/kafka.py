"""The scorer through a real Kafka: beside a bare poll and decode, packed, and with the extra `fast`."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import msgspec
from kafka import KafkaConsumer, TopicPartition

from anomaly.service.metrics import Metrics
from anomaly.service.scorer import Options, Scorer
from anomaly.stream.kafka import KafkaLog
from anomaly.stream.ports import Log, Record
from anomaly.stream.rdkafka import RdKafkaLog
from benchmarks.goals import Row
from benchmarks.scorer import TOPICS, records
from benchmarks.stream import Feed
from benchmarks.world import World, Worlds
from tests.kafka.broker import broker, unavailable

VEHICLES, MESSAGES, PACKED, PACK = 4_000, 256_000, 640_000, 64
PIECE = 6_400
REPEATS = 3


class _Reading(msgspec.Struct, gc=False):
    vehicle: str
    ts: int
    signals: dict[str, float | None]
    context: dict[str, str] | None = None


def run(worlds: Worlds) -> list[Row]:
    """Medians of repeats in turn; nothing where no broker can be started."""
    if reason := unavailable():
        print(reason)
        return []
    world = worlds["wide"]
    folder = Path(tempfile.mkdtemp(prefix="anomaly-bench-"))
    try:
        with broker() as bootstrap:
            return _measure(world, bootstrap, folder)
    finally:
        shutil.rmtree(folder)


def _measure(world: World, bootstrap: str, folder: Path) -> list[Row]:
    logs: dict[str, Log] = {"kafka-python": KafkaLog(bootstrap), "fast": RdKafkaLog(bootstrap)}
    packed = _renamed(world, "packed")
    fill(world, logs["fast"], MESSAGES, 1)
    fill(packed, logs["fast"], PACKED, PACK)
    used_s: dict[str, list[float]] = {name: [] for name in ("bare", *logs, "packed")}
    for repeat in range(REPEATS):
        used_s["bare"].append(bare_once(bootstrap, world.fleet.topic("telemetry")))
        for name, log in logs.items():
            used_s[name].append(scorer_once(world, log, folder / f"{name}{repeat}"))
        used_s["packed"].append(scorer_once(packed, logs["kafka-python"], folder / f"packed{repeat}"))
    for log in logs.values():
        log.close()
    bare, slow, fast = (MESSAGES / median(used_s[name]) for name in ("bare", *logs))
    note = "everything on, burn-in of all vehicles included"
    return [
        Row("kafka-bare", bare / slow, note=f"{slow:,.0f} against {bare:,.0f}/s; {note}"),
        Row("kafka-64", PACKED / median(used_s["packed"]), note=note),
        Row("kafka-fast", fast / slow, note=f"{fast:,.0f} against {slow:,.0f}/s"),
    ]


def _renamed(world: World, prefix: str) -> World:
    """The same fleet on topics of its own."""
    stream = msgspec.structs.replace(world.fleet.stream, prefix=prefix)
    return world._replace(fleet=msgspec.structs.replace(world.fleet, stream=stream))


def fill(world: World, log: Log, count: int, pack: int) -> None:
    """Topics with `count` readings on one partition, `pack` a message."""
    topic = world.fleet.topic("telemetry")
    log.create_topics({world.fleet.topic(name): 1 for name in TOPICS}, retention_ms=-1)
    sink, feed = log.sink(), Feed(VEHICLES, len(world.fleet.signals))
    for start in range(0, count, PIECE):
        found = records(feed, min(PIECE, count - start))
        if pack > 1:
            parts = (found[first : first + pack] for first in range(0, len(found), pack))
            found = [Record(None, b"[" + b",".join(record.value for record in part) + b"]", 0) for part in parts]
        sink.send(topic, found)
    sink.close()


def bare_once(bootstrap: str, topic: str) -> float:
    """CPU seconds to poll all messages in large batches and decode each with msgspec."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    decode = msgspec.json.Decoder(_Reading).decode
    started_s, seen = time.process_time(), 0
    while seen < end:
        for found in consumer.poll(timeout_ms=1_000, max_records=5_000).values():
            for record in found:
                decode(record.value)
            seen += len(found)
    used_s = time.process_time() - started_s
    consumer.close()
    return used_s


def scorer_once(world: World, log: Log, run: Path) -> float:
    """CPU seconds of the scorer over the same messages, as a new group, to the last checkpoint."""
    scorer = Scorer(world.fleet, log, world.registry, Options(run, run.name, stop_at_end=True), Metrics())
    started_s = time.process_time()
    scorer.run()
    return time.process_time() - started_s
