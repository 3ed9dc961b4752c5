"""Vehicles that are silent for long, or let go from memory: nothing of what was learned of them is lost."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly.service.metrics import Metrics
from anomaly.service.rows import read_decisions
from anomaly.service.scorer import Options, Scorer
from anomaly.service.stored import StoreReader, store_paths
from anomaly.stream.ports import Record
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.encode import encode_readings
from tests.service.child import score
from tests.service.rig import FLEET, FRAME, Rig, fill, make_rig, readings, seen

START, DAY_S, SILENT_DAYS = 1_700_000_000, 86_400, 90
FLEET_OF = [f"v{number}" for number in range(12)]
BACK = START + (SILENT_DAYS + 1) * DAY_S


def with_capacity(folder: Path, stock: Path, capacity: int) -> Rig:
    """An empty log of a fleet with so many vehicles of a partition in memory."""
    return make_rig(folder, stock, f"{FLEET}[state]\ncapacity = {capacity}\n")


def send(rig: Rig, vehicles: list[str], times: list[int], seed: int) -> None:
    """A reading of each vehicle at each time; v0 and `new` are 4 spreads off the fleet in `c`, and well."""
    rng = np.random.default_rng(seed)
    names = vehicles * len(times)
    values = np.array(FRAME.mean[0]) + 0.3 * rng.normal(size=(len(names), 3))
    values[:, 2] += 4.0 * np.isin(names, ["v0", "new"])
    ts = np.repeat(np.array(times), len(vehicles))
    batch = Batch.of(names, ts, values.astype(np.float32), {"region": [None] * len(names)}, np.arange(len(names)))
    messages = encode_readings(batch, rig.fleet)
    rig.send("telemetry", [Record(name.encode(), value) for name, value in zip(names, messages, strict=True)])


def run(rig: Rig) -> None:
    """Score to the end of the log, in this process."""
    log = rig.log()
    Scorer(rig.fleet, log, rig.registry, Options(rig.folder / "run", "g", stop_at_end=True), Metrics()).run()
    log.close()


def come_back(folder: Path, stock: Path, capacity: int, restart: bool) -> dict[str, list[dict[str, Any]]]:
    """v0 is heard of again after 90 days in which all others sent every day: its decisions then, and a newcomer's."""
    rig = with_capacity(folder, stock, capacity)
    send(rig, FLEET_OF, [START + 60 * minute for minute in range(20)], 1)
    send(rig, FLEET_OF[1:], [START + day * DAY_S for day in range(1, SILENT_DAYS + 1)], 2)
    if restart:
        run(rig)
        away = {name for path in store_paths(folder / "run") for name in StoreReader(path).away()}
        assert ("v0" in away) == (capacity < len(FLEET_OF))
    send(rig, ["v0", "new"], [BACK + 60 * minute for minute in range(10)], 3)
    run(rig)
    rows = read_decisions(folder / "run").sort_by("ts").to_pylist()
    return {name: [row for row in rows if row["vehicle"] == name and row["ts"] >= BACK] for name in ("v0", "new")}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("capacity", [1, 3, 1_000])
def test_after_90_days_a_vehicle_goes_on_from_its_own_baseline(
    capacity: int, restart: bool, tmp_path: Path, stock: Path
) -> None:
    """Warm from its first reading on and quiet, in memory, let go and after a restart; a newcomer warms up."""
    found = come_back(tmp_path, stock, capacity, restart)
    assert [row["warm"] for row in found["v0"]] == [1.0] * 10
    assert not any(row["alarm"] for row in found["v0"])
    assert [row["warm"] for row in found["new"]][:7] == pytest.approx([n / 6 for n in range(7)])
    own, theirs = (max(row["score"] for row in found[name][:6]) for name in ("v0", "new"))
    assert own < 0.5 * theirs


@pytest.mark.parametrize("capacity", [1, 5])
def test_how_many_vehicles_are_in_memory_changes_nothing(capacity: int, tmp_path: Path, stock: Path) -> None:
    """Decisions, archive, alerts and dead letters are the same with a tiny capacity, through kill and restart."""
    rigs = []
    for name, room in (("huge", 1_000), ("tiny", capacity)):
        (tmp_path / name).mkdir()
        rigs.append(with_capacity(tmp_path / name, stock, room))
        fill(rigs[-1], readings())
    huge, tiny = rigs
    assert score(huge, huge.folder / "run") == 0
    assert score(tiny, tiny.folder / "run", "checkpoint.before_commit:2") == -signal.SIGKILL
    assert score(tiny, tiny.folder / "run", "checkpoint.after_commit:2") == -signal.SIGKILL
    assert score(tiny, tiny.folder / "run") == 0
    away = [name for path in store_paths(tiny.folder / "run") for name in StoreReader(path).away()]
    assert len(away) == 12 - 2 * capacity
    assert seen(tiny, tiny.folder / "run")._replace(repeats=0) == seen(huge, huge.folder / "run")
