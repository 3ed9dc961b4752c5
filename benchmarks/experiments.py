"""A look at an experiment on a million vehicles of which 90 days are known: time and memory, and a day taken in.

`python -m benchmarks experiments`
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from anomaly import settings
from anomaly.experiments.compare import compare
from anomaly.experiments.file import Experiment
from anomaly.experiments.ledger import Ledger, read_ledger
from anomaly.experiments.metrics import COUNTS
from anomaly.experiments.state import State, Taken
from benchmarks.world import Worlds

VEHICLES, DAYS = 1_000_000, 90
TEXT = """
id = "million"
primary = { metric = "false_alarms" }
guardrails = [{ metric = "detected", max_harm = 0.05, method = "betting" }, { metric = "alerts", max_harm = 0.1 }]
strata = ["region"]
[[arms]]
name = "old"
role = "control"
model = "fleet/1"
share = 0.5
[[arms]]
name = "new"
role = "treatment"
model = "fleet/2"
share = 0.5
"""


def run(_worlds: Worlds) -> list[str]:
    """The same in a process of its own, whose memory is that of the look alone."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.experiments"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def main() -> None:
    """Print what one day and one look take."""
    experiment = settings.parse(TEXT, Experiment, "million.toml")
    state = State(
        id="million", revision=1, digest=experiment.digest(), status="running", experiment=experiment, models={},
        digests={}, steps=[Taken(share=1.0, at=0)], at=0,
    )  # fmt: skip
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _build(experiment, state, folder)
        started_s = time.perf_counter()
        ledger = read_ledger(folder / "ledger.parquet", experiment)
        assert ledger is not None
        arm, _ = ledger.entered(state, folder)
        found = compare(experiment, ledger.vehicles(arm, DAYS - 14, _told(VEHICLES)))
        look_s = time.perf_counter() - started_s
        started_s = time.perf_counter()
        ledger.count(DAYS, _day(DAYS), ledger.entered(state, folder)[1], 86_400)
        day_s = time.perf_counter() - started_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{VEHICLES:,} vehicles, {DAYS} days: a look {look_s:.1f} s (goal 10), a day taken in {day_s:.1f} s")
    print(f"peak memory of the whole benchmark {peak:.2f} GB (goal 1); primary {found.primary.result}")


def _build(experiment: Experiment, state: State, folder: Path) -> None:
    started_s = time.perf_counter()
    ledger = Ledger(experiment, -1)
    ledger.welcome(_day(0))
    print(f"{VEHICLES:,} vehicles assigned in {time.perf_counter() - started_s:.1f} s")
    ledger.count(0, _day(0), ledger.entered(state, folder)[1], 86_400)
    ledger.days[:], ledger.day = DAYS, DAYS - 1
    ledger.write(folder / "ledger.parquet")


def _day(number: int) -> pa.Table:
    rows = np.random.default_rng(number).permutation(VEHICLES)
    names = pa.array([f"vehicle-{row:07d}" for row in rows.tolist()])
    return pa.table({"vehicle": names, "region": pa.array([("north", "south", "west")[row % 3] for row in rows])})


def _told(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    told = {name: np.zeros(count) for name in COUNTS if name not in ("days", "mature_days")}
    told["false_alarms"] = rng.poisson(rng.gamma(0.5, 0.4, count)).astype(float)
    told["alerts"], told["pre_alerts"] = told["false_alarms"].copy(), rng.poisson(0.05, count).astype(float)
    ill = rng.random(count) < 0.005
    told["faults"], told["detected"] = ill.astype(float), (ill & (rng.random(count) < 0.8)).astype(float)
    told["missed"], told["lead_days"] = told["faults"] - told["detected"], 10 * told["detected"]
    told["first_fault"], told["first_detected"] = np.where(ill, rng.random(count), np.inf), told["detected"]
    return told


if __name__ == "__main__":
    main()
