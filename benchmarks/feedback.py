"""Outcomes of 10,000,000 decisions and 100,000 labels, in a process of its own: time and memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.world import Worlds

VEHICLES, EACH, LABELS = 100_000, 100, 100_000
FILES = 20
CHILD = "from benchmarks.feedback import join; import sys; join(sys.argv[1])"


def run(_worlds: Worlds) -> list[str]:
    """Write the logs, join them in a process of its own, and say what that took."""
    with tempfile.TemporaryDirectory(prefix="anomaly-outcomes-") as folder:
        write(Path(folder))
        answer = subprocess.run([sys.executable, "-c", CHILD, folder], capture_output=True, text=True, check=True)
    return answer.stdout.splitlines()


def write(run: Path) -> None:
    """Decisions and readings of vehicles in FILES files each, recorded in a store as a scorer would; half the labels
    are faults."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from anomaly.feedback.decisions import schema
    from anomaly.feedback.labels import LabelStore
    from anomaly.service.store import PartitionStore
    from anomaly.service.stored import Identity, store_path
    from anomaly.telemetry.records import Label

    rng = np.random.default_rng(0)
    recorded: dict[str, list[str]] = {"decisions": [], "archive": []}
    count = VEHICLES * EACH // FILES
    for name in recorded:
        (run / name).mkdir(parents=True)
    for number in range(FILES):
        vehicle = np.arange(count) % VEHICLES
        ts = 86_400_000 * (number * (EACH // FILES) + np.arange(count) // VEHICLES)
        names = pa.array([f"v{one}" for one in range(VEHICLES)]).take(pa.array(vehicle))
        alarm = rng.random(count) < 0.01
        columns = {"vehicle": names, "ts": ts, "alarm": alarm, "level": np.float32(0.1) + rng.random(count, np.float32)}
        episodes = [f"e{one}" if wrong else None for one, wrong in zip(vehicle, alarm, strict=True)]
        filled = columns | {"episode": episodes, "kind": np.where(alarm, "fault", ""), "model": ["m/1"] * count}
        table = pa.table({field.name: filled.get(field.name, pa.nulls(count)) for field in schema()})
        for log, part in (("decisions", table.cast(schema())), ("archive", table.select(["vehicle", "ts"]))):
            recorded[log].append(f"{number}.parquet")
            pq.write_table(part, run / log / f"{number}.parquet", compression="zstd")
    store = PartitionStore(store_path(run, "g", "t.telemetry", 0), Identity("", ""))
    store.record_cut(recorded)
    store.close()
    day = 86_400_000
    verdicts = ("fault", "no_fault")
    LabelStore(run / "labels").add(
        [
            Label(vehicle=f"v{n % VEHICLES}", start=60 * day, end=80 * day, verdict=verdicts[n % 2], source="w")
            for n in range(LABELS)
        ]
    )


def join(folder: str) -> None:
    """Outcomes of all, then again with nothing new; each with its time, and the largest memory of the process."""
    import resource

    from anomaly import settings
    from anomaly.fleet import Fleet
    from anomaly.service.outcomes import update_outcomes

    text = '[fleet]\nname = "t"\nvehicle = "vehicle"\ntime = "ts"\ntime_unit = "ms"\n[signals.a]\n'
    fleet = settings.parse(text, Fleet, "fleet.toml")
    for what in ("all at once", "again, with nothing new"):
        started_s = time.monotonic()
        found = update_outcomes(Path(folder), fleet)
        took_s = time.monotonic() - started_s
        print(f"{VEHICLES * EACH:,} decisions x {LABELS:,} labels, {what}: {took_s:.1f} s (goal 60)")
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform == "linux" else 1) / 1e9
    print(f"{len(found.episodes):,} alerts, {len(found.faults):,} faults; at most {peak_gb:.2f} GB (goal 2)")
