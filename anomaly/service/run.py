"""A scorer as a process: kernels, log, metrics, signals, and a clean end."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import structlog

from anomaly.engine.warm import warm
from anomaly.errors import ConfigError
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.metrics import DEFAULT_PORT, Listener, Metrics
from anomaly.service.scorer import OpenStore, Options, Scorer
from anomaly.service.store import PartitionStore
from anomaly.stream.ports import Log

INTERRUPTED = 130


class Process(NamedTuple):
    """What a scorer's process is given beside its fleet and log; `metrics_port` 0: none, None: 9464 if it is free.

    `profile`: say at the end where the time went, as a table on stderr.
    """

    models: Path
    options: Options
    metrics_port: int | None = None
    profile: bool = False


def run(fleet: Fleet, log: Log, process: Process, open_store: OpenStore = PartitionStore) -> int:
    """Score until SIGTERM, SIGINT or the end; answers the exit code, 130 after SIGINT. A second SIGINT ends at once."""
    started_s = time.monotonic()
    warm([fleet.stream.format])
    line = structlog.get_logger()
    line.info("kernels ready", seconds=round(time.monotonic() - started_s, 2))
    metrics = Metrics()
    scorer = Scorer(fleet, log, Registry(process.models), process.options, metrics, open_store)
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if signal.SIGINT in received:
            raise KeyboardInterrupt
        received.append(number)
        scorer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    listener = _listen(process.metrics_port, metrics)
    try:
        scorer.run(listener)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if listener is not None:
            listener.close()
        if process.profile:
            sys.stderr.write(f"{metrics.stages.table()}\n")
    line.info("stopped", signal=signal.Signals(received[0]).name if received else "none, the end was reached")
    return INTERRUPTED if signal.SIGINT in received else 0


def _listen(port: int | None, metrics: Metrics) -> Listener | None:
    """The listener that was asked for; without a port of its own, a taken one is only said."""
    if port == 0:
        return None
    try:
        listener = Listener(DEFAULT_PORT if port is None else port, metrics)
    except ConfigError as error:
        if port is not None:
            raise
        structlog.get_logger().warning("no metrics", reason=str(error))
        return None
    structlog.get_logger().info("metrics", address=f"http://127.0.0.1:{listener.port}/metrics")
    return listener
