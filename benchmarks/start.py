"""From the command to its first decision, with compiled kernels there and with none; and the time of `--help`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from anomaly.stream.embedded import EmbeddedLog
from benchmarks.goals import Row
from benchmarks.scorer import TOPICS, records
from benchmarks.stream import Feed
from benchmarks.world import World, Worlds

COMMAND = (sys.executable, "-m", "anomaly.cli.main")
PATIENCE_S = 120.0
WARM, HELPS = 3, 7


def run(worlds: Worlds) -> list[Row]:
    """Wall clock, a process of its own each time."""
    world = worlds["wide"]
    with tempfile.TemporaryDirectory(prefix="anomaly-bench-") as name:
        cache = Path(name, "kernels")
        cold_s = first_decision_s(world, cache)
        warm_s = median(first_decision_s(world, cache) for _ in range(WARM))
    return [
        Row("start-warm", warm_s, note="wall"),
        Row("start-cold", cold_s, note="wall"),
        Row("help", median(help_s() for _ in range(HELPS)), note="wall"),
    ]


def first_decision_s(world: World, cache: Path) -> float:
    """Seconds of `anomaly score` over ten readings: from its start until they are decided and written down."""
    with tempfile.TemporaryDirectory(prefix="anomaly-bench-") as name:
        folder = Path(name)
        log = EmbeddedLog(folder / "fleet.db")
        log.create_topics({world.fleet.topic(topic): 1 for topic in TOPICS}, retention_ms=-1)
        sink = log.sink()
        sink.send(world.fleet.topic("telemetry"), records(Feed(10, len(world.fleet.signals)), 10))
        sink.close()
        log.close()
        arguments = ["--config", world.folder / "fleet.toml", "--models", world.folder / "models"]
        arguments += ["--log", folder / "fleet.db", "--dir", folder / "run", "--metrics-port", 0, "--stop-at-end"]
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
        started_s = time.monotonic()
        command = [*COMMAND, "score", *map(str, arguments)]
        subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=True, timeout=PATIENCE_S)
        return time.monotonic() - started_s


def help_s() -> float:
    """Seconds of `anomaly --help`."""
    started_s = time.monotonic()
    subprocess.run([*COMMAND, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started_s
