"""Tests of `anomaly produce`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomaly import fleet as fleets
from anomaly.cli.produce import Target, produce
from anomaly.cli.topics import create
from anomaly.errors import PeerError, UsageError
from anomaly.fleet import Format
from anomaly.stream.open import open_log
from anomaly.stream.partitions import partition_of
from anomaly.stream.ports import Block
from anomaly.telemetry.decode import Decoder

FLEET = """
[fleet]
name = "vans"
vehicle = "unit"
time = "time"
time_unit = "s"
[signals.coolant]
"""


class Case:
    """A fleet file, a history in no order of time, and a log with the fleet's topics."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "fleet.toml"
        self.config.write_text(FLEET)
        self.log = folder / "fleet.db"
        self.file = folder / "history.parquet"
        times = np.random.default_rng(1).permutation(np.arange(600)) // 3 + 1_700_000_000
        units = [f"van-{n % 7}" for n in range(600)]
        pq.write_table(pa.table({"unit": units, "time": times, "coolant": np.arange(600.0)}), self.file)
        create(self.config, None, self.log, None, False)

    def put(self, *, speed: float | None = None, pack: int = 1, topic: Target = Target.telemetry) -> None:
        """Run the command's function."""
        produce(self.file, self.config, None, self.log, None, topic, speed, pack)

    def blocks(self, topic: str = "vans.telemetry") -> list[Block]:
        """All that is on a topic."""
        reader = open_log(None, self.log).reader(topic, {})
        blocks = reader.read_to_end()
        reader.close()
        return blocks


@pytest.fixture
def case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Case:
    """A case of its own for each test."""
    made = Case(tmp_path)
    capsys.readouterr()
    return made


def parsed(values: Sequence[bytes]) -> list[dict[str, Any]]:
    """Readings of plain and packed messages."""
    decoded = [json.loads(value) for value in values]
    return [reading for item in decoded for reading in (item if isinstance(item, list) else [item])]


@pytest.mark.parametrize("pack", [1, 20])
def test_readings_come_in_order_each_vehicle_in_its_partition(
    case: Case, pack: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """All readings arrive, in order of time in each partition, in the one that Kafka gives the vehicle's key."""
    case.put(pack=pack)
    assert "600 of 600 records are on vans.telemetry, up to 2023-11-14 22:16 UTC" in capsys.readouterr().out
    blocks = case.blocks()
    messages = sum(len(block.values) for block in blocks)
    assert messages == 600 if pack == 1 else 30 <= messages < 40
    readings = [(block.partition, reading) for block in blocks for reading in parsed(block.values)]
    assert sorted(reading["signals"]["coolant"] for _, reading in readings) == list(range(600))
    for partition in range(4):
        mine = [reading for number, reading in readings if number == partition]
        assert [reading["ts"] for reading in mine] == sorted(reading["ts"] for reading in mine)
        assert all(partition_of(reading["vehicle"].encode(), 4) == partition for reading in mine)


@pytest.mark.parametrize("format", ["msgpack", "arrow"])
def test_packed_messages_of_a_format_hold_vehicles_of_their_partition(case: Case, format: Format) -> None:
    """With `[stream] format`, packed messages hold the vehicles of their partition alone, in order of time."""
    case.config.write_text(f'{FLEET}[stream]\nformat = "{format}"\n')
    case.put(pack=100)
    decoder, found = Decoder(fleets.load(case.config)), 0
    blocks = case.blocks()
    assert sum(len(block.values) for block in blocks) < 12
    for block in blocks:
        batch, failures, _ = decoder.decode(block.values, block.offsets)
        assert failures == []
        assert {partition_of(name.encode(), 4) for name in batch.vehicles} == {block.partition}
        assert (np.diff(batch.ts) >= 0).all()
        found += len(batch)
    assert found == 600


def test_speed_paces_event_time(case: Case) -> None:
    """At 400 seconds a second, 200 seconds of readings take half a second; without a speed, far less."""
    begin = time.monotonic()
    case.put(speed=400.0)
    assert time.monotonic() - begin >= 0.49
    assert sum(len(block.values) for block in case.blocks()) == 600


def test_events_go_to_their_own_topic(case: Case) -> None:
    """Events are put on vehicle-events in order of time, as their contract says."""
    case.file = case.file.with_suffix(".jsonl")
    events = [{"id": f"e{n}", "vehicle": "van-1", "ts": 9 - n, "kind": "service"} for n in range(3)]
    case.file.write_text("\n".join(json.dumps(event) for event in events))
    case.put(topic=Target.events)
    (block,) = case.blocks("vans.vehicle-events")
    assert [event["id"] for event in parsed(block.values)] == ["e2", "e1", "e0"]


def test_what_makes_no_sense_is_refused(case: Case) -> None:
    """Speed 0, packed labels and a log without the topic say what to do instead."""
    with pytest.raises(UsageError, match="--speed 0 never ends"):
        case.put(speed=0.0)
    with pytest.raises(UsageError, match="--pack is for readings"):
        case.put(pack=2, topic=Target.labels)
    case.log = case.log.with_name("empty.db")
    with pytest.raises(PeerError, match="anomaly topics create"):
        case.put()


def test_an_interrupt_says_how_far_it_got(case: Case) -> None:
    """Ctrl-C ends with exit code 130, and the number it says is the number that is there."""
    options = ["--config", str(case.config), "--log", str(case.log), "--speed", "20"]
    command = [sys.executable, "-m", "anomaly.cli.main", "produce", str(case.file), *options]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not case.blocks() and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=20)[1]
    assert running.returncode == 130
    there = sum(len(block.values) for block in case.blocks())
    assert f"interrupted: {there} of 600 records are on vans.telemetry" in said
    assert 0 < there < 600
