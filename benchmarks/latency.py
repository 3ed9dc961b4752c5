"""From a reading on the log to its alert on the log: through Kafka at half load, and on an idle embedded log."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from kafka import KafkaConsumer, TopicPartition

from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.ports import Record
from anomaly.stream.rdkafka import RdKafkaLog
from benchmarks.goals import Row
from benchmarks.scorer import TOPICS, records
from benchmarks.stream import START_MS, Feed
from benchmarks.world import World, Worlds
from tests.kafka.broker import broker, unavailable

ALERTS = 100
PATIENCE_S = 60.0
TICK_S, TICKS_A_PROBE = 0.02, 5
CALIBRATION = 120_000
VEHICLES = 4_000


class Probe(NamedTuple):
    """When readings that must alarm were sent, by vehicle, and when their alerts were there; monotonic seconds."""

    sent: dict[str, float]
    seen: dict[str, float]

    def ms(self) -> np.ndarray:
        """Milliseconds of each."""
        return np.array([(self.seen[who] - self.sent[who]) * 1e3 for who in self.sent])


def run(worlds: Worlds) -> list[Row]:
    """Wall clock; each probe is a sensor fault of a vehicle of its own, an impossible value."""
    world = worlds["wide"]
    idle = embedded(world)
    rows = [Row("latency-idle", float(np.quantile(idle, 0.99)), note=f"wall; median {np.median(idle):.0f} ms")]
    if reason := unavailable():
        print(reason)
        return rows
    with broker() as bootstrap:
        loaded, load = through_kafka(world, bootstrap)
    note = f"wall; median {np.median(loaded):.0f} ms; {load:,.0f} readings/s, one a message"
    return [*rows, Row("latency", float(np.quantile(loaded, 0.99)), note=note)]


def embedded(world: World) -> np.ndarray:
    """One probe after the other."""
    with tempfile.TemporaryDirectory(prefix="anomaly-bench-") as name:
        path = Path(name, "fleet.db")
        log = EmbeddedLog(path)
        log.create_topics({world.fleet.topic(topic): 1 for topic in TOPICS}, retention_ms=-1)
        sink, reader = log.sink(), log.reader(world.fleet.topic("alerts"), {})
        with scorer(world, Path(name), ["--log", str(path)]):
            seconds = [
                _waited(lambda n=number: _probe(world, sink.send, f"x{n}", START_MS + n), reader.read_to_end)  # type: ignore[misc]
                for number in range(ALERTS + 1)
            ]
        sink.close()
        reader.close()
        log.close()
    return np.array(seconds[1:]) * 1e3


def _waited(send: Callable[[], object], read: Callable[[], object]) -> float:
    send()
    started_s = time.monotonic()
    while not read():
        if time.monotonic() - started_s > PATIENCE_S:
            raise TimeoutError("no alert came")
        time.sleep(0.001)
    return time.monotonic() - started_s


def _probe(world: World, send: Callable[[str, list[Record]], object], vehicle: str, ts: int) -> None:
    signal = next(iter(world.fleet.signals))
    reading = {"vehicle": vehicle, "ts": ts, "signals": {signal: 99_999.0}, "v": 1}
    send(world.fleet.topic("telemetry"), [Record(vehicle.encode(), msgspec.json.encode(reading))])


@contextmanager
def scorer(world: World, folder: Path, where: list[str], *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """`anomaly score` as a process of its own."""
    arguments = ["--config", str(world.folder / "fleet.toml"), "--models", str(world.folder / "models")]
    arguments += [*where, "--dir", str(folder / "run"), "--metrics-port", "0", *more]
    command = [sys.executable, "-m", "anomaly.cli.main", "score", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def through_kafka(world: World, bootstrap: str) -> tuple[np.ndarray, float]:
    """Probes among half of the readings a second that the scorer and this machine together are able to."""
    log = RdKafkaLog(bootstrap)
    log.create_topics({world.fleet.topic(topic): 1 for topic in TOPICS}, retention_ms=-1)
    feed = Feed(VEHICLES, len(world.fleet.signals))
    first = records(feed, CALIBRATION)
    sink = log.sink()
    for start in range(0, CALIBRATION, 10_000):
        sink.send(world.fleet.topic("telemetry"), first[start : start + 10_000])
    with tempfile.TemporaryDirectory(prefix="anomaly-bench-") as name:
        folder, where = Path(name), ["--bootstrap-server", bootstrap]
        half = _most(world, folder, where) / 2
        with scorer(world, folder, where):
            probe = _under_load(world, sink.send, feed, bootstrap, half)
    sink.close()
    log.close()
    return probe.ms(), half


def _most(world: World, folder: Path, where: list[str]) -> float:
    """Readings a second of wall clock over what is on the topic, beyond the time of a start."""
    seconds = []
    for _ in range(2):  # the second run finds nothing new: it is the start and the end alone
        started_s = time.monotonic()
        with scorer(world, folder, where, "--stop-at-end") as process:
            process.wait()
        seconds.append(time.monotonic() - started_s)
    return CALIBRATION / max(seconds[0] - seconds[1], 0.1)


def _under_load(
    world: World, send: Callable[[str, list[Record]], object], feed: Feed, bootstrap: str, rate: float
) -> Probe:
    """Send at a rate, a probe now and then, while another thread waits for the alerts."""
    probe, stop = Probe({}, {}), threading.Event()
    waiting = threading.Thread(target=_listen, args=(world, bootstrap, probe, stop), daemon=True)
    waiting.start()
    count = int(rate * TICK_S)
    pool = [records(feed, count) for _ in range(50)]
    topic = world.fleet.topic("telemetry")
    _probe(world, send, "first", START_MS)
    _until(lambda: "first" in probe.seen)
    due_s = time.monotonic()
    for tick in range(ALERTS * TICKS_A_PROBE):
        fresh = pool[tick] if tick < len(pool) else records(feed, count)
        send(topic, fresh)
        if tick % TICKS_A_PROBE == 0:
            vehicle = f"x{tick}"
            probe.sent[vehicle] = time.monotonic()
            _probe(world, send, vehicle, START_MS)
        due_s += TICK_S
        time.sleep(max(0.0, due_s - time.monotonic()))
    _until(lambda: probe.sent.keys() <= probe.seen.keys())
    stop.set()
    waiting.join()
    return probe


def _until(there: Callable[[], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not there():
        if time.monotonic() > until_s:
            raise TimeoutError("no alert came")
        time.sleep(0.005)


def _listen(world: World, bootstrap: str, probe: Probe, stop: threading.Event) -> None:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    partition = TopicPartition(world.fleet.topic("alerts"), 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    while not stop.is_set():
        for found in consumer.poll(timeout_ms=50).values():
            for record in found:
                probe.seen.setdefault(msgspec.json.decode(record.value)["subject"]["vehicle"], time.monotonic())
    consumer.close()
