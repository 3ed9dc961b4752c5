"""Tests of what a run's state takes up, and of the forecast against what is then used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from anomaly.fleet import StateTable
from anomaly.service.census import Stats, forecast, stats
from anomaly.service.metrics import Metrics
from anomaly.service.replay import Run
from anomaly.service.scorer import Options, Scorer
from anomaly.service.stored import store_path
from tests.service.rig import Rig

ROOT = Path(__file__).parents[2]
GROWTH = """
import ctypes, gc, json, sys
from pathlib import Path
import numpy as np
from anomaly.engine.engine import Engine
from anomaly.service.census import forecast
from anomaly.telemetry.batch import Batch
from tests.service.rig import FLEET, FRAME
from tests.engine.world import arm
from anomaly import settings
from anomaly.fleet import Fleet

def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    text = Path("/proc/self/status").read_text()
    return 1_024 * int(text.partition("VmRSS:")[2].split()[0])

def feed(first, last):
    for start in range(first, last, 1_000):
        names = [f"v{number:09}" for number in range(start, start + 1_000)]
        zeros = np.zeros((1_000, 3), np.float32)
        engine.decide(Batch.of(names, np.ones(1_000, np.int64), zeros, {"region": [None] * 1_000}, np.arange(1_000)))
    return sum(map(len, engine.delta()))

fleet = settings.parse(FLEET.replace("partitions = 2", "partitions = 1"), Fleet, "f")
engine = Engine(fleet, FRAME)
engine.use([arm()], lambda vehicle: 0)
feed(0, 1_000)
before = resident()
stored = feed(1_000, 401_000)
few, many = (forecast(fleet, count, 0, 10) for count in (1_000, 401_000))
print(json.dumps([resident() - before, stored, many.state - few.state, many.disk - few.disk]))
"""


def score(rig: Rig, capacity: int) -> list[Stats]:
    """Score the whole log with so many vehicles of a partition in memory; what the run then has."""
    fleet = msgspec.structs.replace(rig.fleet, state=StateTable(capacity=capacity))
    log, options = rig.log(), Options(rig.folder / "run", "g", stop_at_end=True)
    Scorer(fleet, log, rig.registry, options, Metrics()).run()
    log.close()
    return stats(fleet, Run(rig.folder / "run", "g", rig.registry))


@pytest.mark.skipif(sys.platform != "linux", reason="reads resident memory from /proc")
def test_a_forecast_is_within_a_tenth_of_what_is_used() -> None:
    """Memory and bytes of a checkpoint that 400,000 vehicles add are those that were forecast; a page has 2 MB."""
    command = [sys.executable, "-c", GROWTH]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    memory, stored, forecast_memory, forecast_stored = json.loads(done.stdout)
    assert forecast_memory == pytest.approx(memory, rel=0.1)
    assert forecast_stored == pytest.approx(stored, rel=0.1)


def test_stats_count_every_vehicle_once(rig: Rig) -> None:
    """With room for two vehicles of a partition the others are idle; their sum is the fleet."""
    first, second, whole = score(rig, 2)
    assert (first.partition, second.partition, whole.partition) == (0, 1, None)
    assert whole.vehicles + whole.idle == 12
    assert max(first.vehicles, second.vehicles) <= 2
    assert whole.idle_state == first.idle_state + second.idle_state > 0
    assert first.deltas > 0
    assert first.file >= store_path(rig.folder / "run", "g", "bus.telemetry", 0).stat().st_size


def test_idle_bytes_are_those_forecast(rig: Rig) -> None:
    """A vehicle that was let go takes up what the forecast says, to a tenth."""
    whole = score(rig, 1)[-1]
    fleet = msgspec.structs.replace(rig.fleet, state=StateTable(capacity=1))
    told = [forecast(fleet, count, 0, 2).disk for count in (2, 102)]
    assert whole.idle_state / whole.idle == pytest.approx((told[1] - told[0]) / 100, rel=0.1)


def test_a_fleet_that_fits_has_nobody_idle(rig: Rig) -> None:
    """Without pressure all are in memory, and none of the store's bytes are idle vehicles'."""
    whole = score(rig, 1_000)[-1]
    assert (whole.vehicles, whole.idle, whole.idle_state) == (12, 0, 0)
