"""How fast a fleet is simulated: in memory, and as files."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from anomaly.simulator import scenario, write
from anomaly.simulator.simulate import arrivals, build_world, table_of
from benchmarks.goals import Row
from benchmarks.timing import cpu_ns
from benchmarks.world import Worlds

REPEATS = 5
VEHICLES = 1_000


def run(_worlds: Worlds) -> list[Row]:
    """A year of 1,000 vehicles with a winter and new firmware, medians of repeats after one that warms up."""
    config = scenario("D", vehicles=VEHICLES, days=365)
    counted = [0]

    def drive() -> None:
        world = build_world(config, 1)
        counted[0] = sum(len(part.ts) for part in arrivals(world, config))

    def tables() -> None:
        world = build_world(config, 1)
        for part in arrivals(world, config):
            table_of(world, part)

    def files() -> None:
        with TemporaryDirectory(prefix="anomaly-bench-") as folder:
            write(config, 1, Path(folder))

    found = {}
    for name, work in (("simulate", drive), ("simulate-table", tables), ("simulate-files", files)):
        used = [cpu_ns(work) for _ in range(1 + REPEATS)][1:]
        found[name] = counted[0] * 1e9 / median(used)
    note = f"{counted[0]:,} readings of 17 signals"
    return [Row(name, rate, note=note if name == "simulate" else "") for name, rate in found.items()]
