"""The controller of a run's experiments as a process: a look at each of them, again and again."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import structlog

from anomaly.errors import AnomalyError, DataError
from anomaly.experiments.file import names
from anomaly.experiments.state import State, read_state
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.look import conclude, known

INTERRUPTED = 130


def control(run: Path, fleet: Fleet, registry: Registry, every_s: float) -> int:
    """Look at all experiments every `every_s` seconds until SIGTERM or SIGINT; answers the exit code.

    What it knows is in the run's folder: one that is killed at any moment goes on from there.
    """
    received: list[int] = []
    ended = threading.Event()

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        ended.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not ended.is_set():
            look_at_all(run, fleet, registry)
            ended.wait(every_s)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return INTERRUPTED if signal.SIGINT in received else 0


def look_at_all(run: Path, fleet: Fleet, registry: Registry) -> list[State]:
    """Look once at every experiment that runs or has not begun; one that cannot be run is said and stops no other."""
    line = structlog.get_logger()
    states = []
    try:
        told = known(run, fleet)
    except DataError as error:
        line.warning("nothing to look at", reason=str(error))
        return []
    with alone(run):
        for name in names(run / "experiments"):
            try:
                before = read_state(run / "experiments", name)
                state = conclude(run, fleet, name, registry, told)
            except AnomalyError as error:
                line.error("experiment held", experiment=name, reason=str(error))
                continue
            states.append(state)
            if state != before:
                line.info("experiment", id=name, status=state.status, share=state.share, reason=state.reason)
    return states


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """One process at a time acts on the experiments of a run; another one waits for it."""
    folder = run / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
