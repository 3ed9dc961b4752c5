"""The scorer through a real Kafka, one reading a message: beside a bare poll and decode, and with the extra `fast`."""

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
from benchmarks.scorer import REPEATS, TOPICS, Row, World, world
from tests.kafka.broker import broker

MESSAGES = 150_000


class _Reading(msgspec.Struct, gc=False):
    vehicle: str
    ts: int
    signals: dict[str, float | None]
    context: dict[str, str] | None = None


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
        for records in consumer.poll(timeout_ms=1_000, max_records=5_000).values():
            for record in records:
                decode(record.value)
            seen += len(records)
    used_s = time.process_time() - started_s
    consumer.close()
    return used_s


def scorer_once(made: World, log: Log, run: Path) -> float:
    """CPU seconds of the scorer over the same messages, as a new group, to the last checkpoint."""
    scorer = Scorer(made.fleet, log, made.registry, Options(run, run.name, stop_at_end=True), Metrics())
    started_s = time.process_time()
    scorer.run()
    return time.process_time() - started_s


def fill(made: World, log: Log) -> str:
    """Topics with the messages on one partition; answers the name."""
    topic = made.fleet.topic("telemetry")
    log.create_topics({made.fleet.topic(name): 1 for name in TOPICS}, retention_ms=-1)
    sink = log.sink()
    for start in range(0, MESSAGES, 10_000):
        rows = slice(start, start + 10_000)
        pairs = zip(made.vehicles[rows], made.messages[rows], strict=True)
        sink.send(topic, [Record(vehicle.encode(), message) for vehicle, message in pairs])
    sink.close()
    return topic


def run() -> list[Row]:
    """Medians of interleaved repeats."""
    folder = Path(tempfile.mkdtemp(prefix="anomaly-bench-"))
    try:
        with broker() as bootstrap:
            made = world(folder)
            logs: dict[str, Log] = {"kafka-python": KafkaLog(bootstrap), "fast": RdKafkaLog(bootstrap)}
            topic = fill(made, logs["fast"])
            used_s: dict[str, list[float]] = {name: [] for name in ("bare", *logs)}
            for repeat in range(REPEATS):
                used_s["bare"].append(bare_once(bootstrap, topic))
                for name, log in logs.items():
                    used_s[name].append(scorer_once(made, log, folder / f"{name}{repeat}"))
            for log in logs.values():
                log.close()
        bare, slow, fast = (MESSAGES / median(used_s[name]) for name in ("bare", "kafka-python", "fast"))
        what = "Kafka to decisions, one reading a message, everything on"
        return [
            Row(what, slow, "bare poll and msgspec", bare, slow / bare),
            Row("the same with the extra `fast`", fast, "kafka-python", slow, fast / slow),
        ]
    finally:
        shutil.rmtree(folder)
