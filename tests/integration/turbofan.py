"""Real engines on a real Kafka: the model, its backtest, and scorer processes that a test can start, stop and kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from anomaly import settings
from anomaly.cli.config import to_toml
from anomaly.cli.init import Request, fleet_file
from anomaly.engine.frame import Frame
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.rows import read_decisions
from anomaly.stream.kafka import KafkaLog
from anomaly.stream.ports import Record
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.encode import encode_readings
from anomaly.telemetry.survey import survey
from training.backtest import backtest
from training.fit import fit
from training.history import Sources, load_history, split_vehicles
from training.train import Recipe, publish

COLUMNS = ["vehicle", "ts", "score", "threshold", "level", "alarm", "kind", "episode", "top_signals", "model"]
TOPICS = ("vehicle-events", "labels", "alerts", "dead-letters")
PATIENCE_S = 60.0


class World(NamedTuple):
    """A folder with fleet file and registry, topics of its own on the broker, the test engines, their backtest."""

    folder: Path
    bootstrap: str
    fleet: Fleet
    batch: Batch
    expected: pa.Table

    @property
    def run(self) -> Path:
        """Where the scorers write."""
        return self.folder / "run"

    def produce(self, start: float, stop: float) -> int:
        """Put this part of the readings (shares of all) onto the topic; answers the row that it ends at."""
        first, last = int(start * len(self.batch)), int(stop * len(self.batch))
        part = self.batch.rows(first, last)
        messages = encode_readings(part, self.fleet)
        log = KafkaLog(self.bootstrap, {})
        sink = log.sink()
        records = [Record(who.encode(), value) for who, value in zip(part.vehicles, messages, strict=True)]
        sink.send(self.fleet.topic("telemetry"), records)
        sink.close()
        log.close()
        return last

    def decisions(self) -> pa.Table:
        """What the scorers logged, in order of vehicle and time."""
        return comparable(read_decisions(self.run))

    def messages(self, topic: str) -> list[bytes]:
        """All messages of a topic."""
        log = KafkaLog(self.bootstrap, {})
        reader = log.reader(self.fleet.topic(topic), {})
        values = [value for block in reader.read_to_end() for value in block.values]
        reader.close()
        log.close()
        return values


def make_world(folder: Path, bootstrap: str, data: Path) -> World:
    """Train on split 0, backtest its test engines, and make topics with four partitions."""
    name = f"turbofan-{uuid.uuid4().hex[:8]}"
    text = fleet_file(Request(data, "unit", "cycle", name), survey(data, "unit", "cycle"))
    fleet = settings.parse(text, Fleet, "fleet.toml")
    fleet = msgspec.structs.replace(
        fleet,
        history=msgspec.structs.replace(fleet.history, run_to_failure=True),
        log=msgspec.structs.replace(fleet.log, decisions="all"),
        stream=msgspec.structs.replace(fleet.stream, checkpoint_every_s=0.2),
    )
    (folder / "fleet.toml").write_text(to_toml(fleet))
    history = load_history(fleet, Sources(data))
    split = split_vehicles(history.names, 0, 0)
    trained = fit(fleet, history, split, 0)
    registry = Registry(folder / "models")
    publish(registry, Recipe(fleet, history, split, 0), trained)
    loaded = registry.load(registry.resolve(f"{name}@champion"))
    test = history.of(split.test)
    result = backtest(fleet, Frame.from_json(loaded.frame), loaded.engine_model(), test)
    log = KafkaLog(bootstrap, {})
    log.create_topics({fleet.topic("telemetry"): 4, **{fleet.topic(topic): 1 for topic in TOPICS}}, retention_ms=-1)
    log.close()
    return World(folder, bootstrap, fleet, test.batch, comparable(result.decisions))


def comparable(table: pa.Table) -> pa.Table:
    """The columns that must be equal, words as text, in order of vehicle and time."""
    plain = [
        table[name].cast(pa.string()) if pa.types.is_dictionary(table[name].type) else table[name] for name in COLUMNS
    ]
    return pa.table(plain, names=COLUMNS).sort_by([("vehicle", "ascending"), ("ts", "ascending")]).combine_chunks()


class Member:
    """A scorer process of the group; its log lines tell what it took over and gave up."""

    def __init__(self, world: World, name: str) -> None:
        properties = world.folder / f"{name}.properties"
        properties.write_text(f"group.instance.id={name}\nsession.timeout.ms=6000\n")
        self._log = (world.folder / f"{name}-{uuid.uuid4().hex[:4]}.log").open("w+")
        arguments = ["--config", "fleet.toml", "--bootstrap-server", world.bootstrap, "--dir", "run"]
        arguments += ["--command-config", str(properties), "--metrics-port", "0"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "anomaly.cli.main", "score", *arguments],
            cwd=world.folder, stderr=self._log, stdout=subprocess.DEVNULL, env=dict(os.environ),
        )  # fmt: skip

    def lines(self) -> list[dict[str, Any]]:
        """Its log so far."""
        self._log.flush()
        text = Path(self._log.name).read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def took(self) -> list[int]:
        """Partitions that it was given, in order, each time again."""
        return [
            int(key) for line in self.lines() if line["event"] == "partitions taken over" for key in line["offsets"]
        ]

    def gave(self) -> list[int]:
        """Partitions that it gave up."""
        return [key for line in self.lines() if line["event"] == "partitions given up" for key in line["partitions"]]

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()
        self._log.close()

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=20)
        self._log.close()
        return code


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for it."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not come about within {PATIENCE_S:g} s"
        time.sleep(0.1)


def differences(world: World, found: pa.Table) -> list[str]:
    """Which of the columns differ from the backtest, [] for none."""
    if len(found) != len(world.expected):
        return [f"{len(found)} decisions, {len(world.expected)} expected"]
    return [name for name in COLUMNS if not same(found[name], world.expected[name])]


def same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    """Equal, NaN being equal to itself."""
    if pa.types.is_floating(one.type):
        return np.array_equal(one.to_numpy(), other.to_numpy(), equal_nan=True)
    return bool(one.to_pylist() == other.to_pylist())
