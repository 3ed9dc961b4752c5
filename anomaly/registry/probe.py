"""A trial run of a model in a process of its own, with little memory and time, before anybody relies on it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from typing import NamedTuple

from anomaly.errors import AnomalyError, ModelError

ROWS = 257
"""Readings of the trial batch: not a multiple of anything, so that cuts show."""
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG")
"""What of the environment the process sees: no secrets."""


class Limits(NamedTuple):
    """Address space in bytes (not on macOS, which cannot limit it), CPU time and wall time in seconds."""

    memory: int = 2 * 1024**3
    cpu_s: int = 20
    wall_s: int = 60


def probe(model: bytes, signals: int, limits: Limits = Limits()) -> None:
    """Load and run `model` apart from us; ModelError says why it may not be used.

    It must give finite scores >= 0, the same bits for a row alone and within a batch, and contributions of the
    right shape, for healthy and for wild features, within `limits`.
    """
    command = [sys.executable, "-P", "-B", "-m", "anomaly.registry.probe", *map(str, (signals, *limits))]
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment = {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, input=model, capture_output=True, env=environment, timeout=limits.wall_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"the model's trial run took more than {limits.wall_s} s and was ended") from error
    if done.returncode == 0:
        return
    if done.returncode == ModelError.exit_code:
        raise ModelError(done.stdout.decode("utf-8", "replace").strip())
    raise ModelError(f"the model's trial run {_ending(done)}")


def _ending(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode == -signal.SIGXCPU:
        return "used up its CPU time"
    if done.returncode < 0:
        return f"was ended by {signal.Signals(-done.returncode).name}"
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"failed: {said[-1][:300] if said else f'exit code {done.returncode}'}"


def main() -> None:
    """The process itself: model on stdin, number of signals and limits as arguments."""
    signals, memory, cpu_s = map(int, sys.argv[1:4])
    model = sys.stdin.buffer.read()
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "darwin":  # which refuses any limit on address space
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        _try(model, signals)
    except AnomalyError as error:
        sys.stdout.write(str(error))
        sys.exit(error.exit_code)
    except MemoryError:
        sys.stdout.write(f"the model needs more than {memory:,} bytes of memory for {ROWS} readings")
        sys.exit(ModelError.exit_code)


def _try(model: bytes, signals: int) -> None:
    import numpy as np

    from anomaly.detectors.onnx import OnnxDetector

    detector = OnnxDetector(model, [f"signal {j}" for j in range(signals)])
    features = np.random.default_rng(0).normal(0.0, 3.0, (ROWS, detector.width)).astype(np.float32)
    features[0] = 0.0
    features[1] *= 10.0
    features[:, len(detector.columns) :] = 0.0
    scores = detector.score(features)
    if scores.shape != (ROWS,) or not np.all(np.isfinite(scores) & (scores >= 0.0)):
        raise ModelError(f"scores must be {ROWS} finite numbers >= 0; the trial run gave {_span(scores)}")
    if detector.abrupt is not None and not np.all(np.isfinite(detector.abrupt.score(features))):
        raise ModelError("scores of abrupt evidence must be finite numbers")
    for row in range(0, ROWS, 16):
        if detector.score(features[row : row + 1]).tobytes() != scores[row : row + 1].tobytes():
            raise ModelError(
                f"a reading scores differently alone and in a batch (row {row}); pad the features to a multiple of 8"
            )
    for scorer in (detector, detector.abrupt):
        if scorer is not None and scorer.contributions(features[:8]).shape != (8, signals):
            raise ModelError(f"contributions must have {signals} columns, one a signal")


def _span(scores: object) -> str:
    import numpy as np

    values = np.asarray(scores)
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    return f"{values.dtype}{list(values.shape)} from {low} to {high}"


if __name__ == "__main__":
    main()
