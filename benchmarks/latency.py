"""From a reading on the log to its alert on the log: a scorer on the embedded log, one bad reading at a time."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from anomaly.cli.config import to_toml
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.ports import Record
from benchmarks.scorer import TOPICS, World

ALERTS = 100
PATIENCE_S = 30.0


class Latency(msgspec.Struct):
    """Wall-clock milliseconds from `send` returning to the alert being readable, and from start to first decision."""

    alerts: int
    p50_ms: float
    p99_ms: float
    start_to_first_alert_s: float


def run(made: World) -> Latency:
    """Each alert is a sensor fault of a vehicle of its own: an impossible value."""
    with tempfile.TemporaryDirectory(prefix="anomaly-bench-") as name:
        folder = Path(name)
        signal = next(iter(made.fleet.signals))
        limited = msgspec.structs.replace(made.fleet.signals[signal], max=10_000.0)
        fleet = msgspec.structs.replace(made.fleet, signals={**made.fleet.signals, signal: limited})
        (folder / "fleet.toml").write_text(to_toml(fleet), encoding="utf-8")
        log = EmbeddedLog(folder / "fleet.db")
        log.create_topics({fleet.topic(topic): 1 for topic in TOPICS}, retention_ms=-1)
        arguments = ["--config", "fleet.toml", "--log", "fleet.db", "--models", str(made.folder / "models")]
        command = [sys.executable, "-m", "anomaly.cli.main", "score", *arguments, "--metrics-port", "0"]
        process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        try:
            seconds = _measure(log, fleet.topic("telemetry"), fleet.topic("alerts"), signal)
        finally:
            process.terminate()
            process.wait()
            log.close()
    ms = np.array(seconds[1:]) * 1e3
    p50, p99 = (round(float(np.quantile(ms, q)), 1) for q in (0.5, 0.99))
    return Latency(len(ms), p50, p99, round(seconds[0], 2))


def _measure(log: EmbeddedLog, telemetry: str, alerts: str, signal: str) -> list[float]:
    sink, reader, seconds = log.sink(), log.reader(alerts, {}), []
    for number in range(ALERTS + 1):
        reading = {"vehicle": f"x{number}", "ts": 1_760_000_000_000 + number, "signals": {signal: 99_999.0}, "v": 1}
        sink.send(telemetry, [Record(reading["vehicle"].encode(), msgspec.json.encode(reading))])  # type: ignore[attr-defined]
        started_s = time.monotonic()
        while not reader.read_to_end():
            if time.monotonic() - started_s > PATIENCE_S:
                raise TimeoutError("no alert came")
            time.sleep(0.001)
        seconds.append(time.monotonic() - started_s)
    sink.close()
    reader.close()
    return seconds
