"""CPU time, measured so that both sides of a comparison have it equally quiet."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
Turn = Callable[[], float]
"""Prepares untimed, works timed; answers the CPU nanoseconds a reading."""


@contextmanager
def quiet() -> Iterator[None]:
    """Without the collector of cycles: what was made before is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def cpu_ns(work: Callable[[], object]) -> int:
    """CPU nanoseconds of this process over one call."""
    started = time.process_time_ns()
    work()
    return time.process_time_ns() - started


def in_turns(turns: Mapping[str, Turn], repeats: int, warm: int = 5) -> dict[str, NDArray[np.float64]]:
    """What each turn answers, `repeats` times, one after the other; the first `warm` rounds do not count."""
    found: dict[str, list[float]] = {name: [] for name in turns}
    with quiet():
        for repeat in range(warm + repeats):
            for name, turn in turns.items():
                value = turn()
                if repeat >= warm:
                    found[name].append(value)
    return {name: np.array(values) for name, values in found.items()}


def rate(ns: NDArray[np.float64]) -> float:
    """Readings a second of CPU, from the median of nanoseconds a reading."""
    return 1e9 / float(np.median(ns))


def child(module: str, *arguments: object, env: Mapping[str, str] | None = None) -> Any:
    """What `python -m benchmarks.<module> ARGUMENTS` prints last, as JSON: for what needs a process of its own."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def status_kb(field: str, process: int | str = "self") -> int:
    """A field of a process's /proc status in kB, such as VmHWM."""
    line = next(
        line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith(f"{field}:")
    )
    return int(line.split()[1])
