"""A made-up fleet whose vehicles wear out, in cycles, small enough to be judged in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anomaly import settings
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from training.history import make_history, split_vehicles
from training.suites.case import Case, split_case

TEXT = """
[fleet]
name = "wearing"
vehicle = "v"
time = "t"
time_unit = "cycles"
[signals.a]
[signals.b]
[signals.c]
[context]
regime = ["load"]
[history]
run_to_failure = true
[baseline]
burn_in = 10
"""
FLEET = settings.parse(TEXT, Fleet, "fleet.toml")


def table(seed: int = 0, vehicles: int = 25, life: int = 150, wear: float = 5.0) -> pa.Table:
    """Readings in two regimes, with an offset for each vehicle, and `wear` on two signals at the end of its life."""
    rng = np.random.default_rng(seed)
    load = rng.integers(0, 2, (life, vehicles))
    worn = np.clip(np.arange(life) / life - 0.5, 0, None)[:, None] * 2 * wear
    noise = rng.normal(0, 1, (life, vehicles, 3)) + rng.normal(0, 2, (vehicles, 3))
    values = (noise + 30 * load[..., None] + worn[..., None] * [1.0, -1.0, 0.0]).reshape(-1, 3)
    columns = {name: values[:, place].astype(np.float32) for place, name in enumerate("abc")}
    names = [f"v{n:02d}" for n in range(vehicles)] * life
    load_column = load.reshape(-1).astype(np.float32)
    return pa.table({"v": names, "t": np.repeat(np.arange(life), vehicles), **columns, "load": load_column})


def case(seed: int = 0, life: int = 150, wear: float = 5.0) -> Case:
    """The first split of the fleet."""
    rows = table(seed, life=life, wear=wear)
    names = rows["v"].to_pylist()
    values = np.stack([rows[name].to_numpy() for name in ("a", "b", "c", "load")], axis=1)
    batch = Batch.of(names, rows["t"].to_numpy(), values, {"region": [None] * len(names)}, np.arange(len(names)))
    history = make_history(FLEET, batch, [], [], [])
    return split_case(FLEET, history, split_vehicles(history.names, 0, 0))


def write(folder: Path, text: str = TEXT, rows: pa.Table | None = None) -> tuple[Path, Path]:
    """The fleet file and the readings as a user has them."""
    (folder / "fleet.toml").write_text(text, encoding="utf-8")
    pq.write_table(table() if rows is None else rows, folder / "history.parquet")
    return folder / "fleet.toml", folder / "history.parquet"
