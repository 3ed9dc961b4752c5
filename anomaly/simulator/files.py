"""A simulated fleet as files: Parquet tables, a fleet file that fits them, and what made them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anomaly.errors import DataError
from anomaly.simulator import truth
from anomaly.simulator.config import SimulationConfig
from anomaly.simulator.signals import REGIME, SCORED, Channel
from anomaly.simulator.simulate import arrivals, build_world, table_of

TABLES = ("events", "labels", "truth", "nuisances")
ROW_GROUP = 1 << 17


class Written(NamedTuple):
    """What was written: the files, how many readings, and the small tables."""

    files: list[Path]
    readings: int
    events: pa.Table
    labels: pa.Table
    truth: pa.Table
    nuisances: pa.Table


def write(config: SimulationConfig, seed: int, folder: Path) -> Written:
    """Simulate a fleet and write it into `folder`, chunk by chunk, so that its size does not matter.

    `readings`, `events`, `labels`, `truth` and `nuisances` (.parquet), `fleet.toml` and `simulation.toml`; where there
    is a history also the two parts of the readings, `history.parquet` (what to train on) and `later.parquet`, by `ts`.
    Files of these names are replaced. The same config and seed give the same bytes, with the same version of pyarrow.
    Raises DataError where the folder cannot be written.
    """
    world = build_world(config, seed)
    tables = dict(zip(TABLES, truth.tables(world, config, seed), strict=True))
    texts = {"fleet.toml": fleet_toml(config), "simulation.toml": simulation_toml(config, seed)}
    pieces = (table_of(world, arrived) for arrived in arrivals(world, config))
    parts = ("readings", "history", "later") if config.train_share else ("readings",)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        count = _write_readings(pieces, [folder / f"{part}.parquet" for part in parts], config.train_until_ms)
        for name, table in tables.items():
            pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"the simulated fleet cannot be written to {folder}: {error}") from error
    names = [*(f"{name}.parquet" for name in (*parts, *TABLES)), *texts]
    return Written([folder / name for name in names], count, **tables)


def _write_readings(pieces: Iterable[pa.Table], paths: list[Path], cut_ms: int) -> int:
    """Write all readings to the first path, those before `cut_ms` to the second and the others to the third."""
    count = 0
    writers: dict[Path, pq.ParquetWriter] = {}
    with ExitStack() as stack:
        for piece in pieces:
            count += piece.num_rows
            for path, part in zip(paths, _parts(piece, cut_ms), strict=False):
                if path not in writers:
                    opened = pq.ParquetWriter(path, piece.schema, compression="zstd")
                    writers[path] = stack.enter_context(opened)
                writers[path].write_table(part, row_group_size=ROW_GROUP)
    return count


def _parts(piece: pa.Table, cut_ms: int) -> Iterator[pa.Table]:
    yield piece
    before = pc.less(piece["ts"], cut_ms)
    yield piece.filter(before)
    yield piece.filter(pc.invert(before))


def simulation_toml(config: SimulationConfig, seed: int) -> str:
    """The text of `simulation.toml`: every setting, and the seed."""
    values = {name: getattr(config, name) for name in config.__struct_fields__}
    lines = [f"{name} = {json.dumps(value, default=str)}" for name, value in values.items()]
    return "\n".join(["# What made this simulated fleet: the generator's settings and its seed.",
                      f"# History, to train on, ends before ts = {config.train_until_ms}." if config.train_share
                      else "# All of it is one span, without a history apart.",
                      f"seed = {seed}", *lines, ""])  # fmt: skip


def fleet_toml(config: SimulationConfig) -> str:
    """The text of a fleet file for the simulated fleet: active as it is, the rest as comments."""
    signals = "\n".join(_signal(name, channel) for name, channel in SCORED.items())
    regime = ", ".join(f'"{name}"' for name in REGIME)
    cohort = COHORT if config.train_share else "# " + COHORT
    return FLEET.format(name=config.name, signals=signals, regime=regime, cohort=cohort)


def _signal(name: str, channel: Channel) -> str:
    return f'[signals."{name}"]\nunit = "{channel.unit}"\nmin = {channel.low}\nmax = {channel.high}\n'


COHORT = 'cohort = ["type", "region"]  # take off what a type has in common in a region: season, weather, firmware'
FLEET = """\
# A simulated fleet of cars and vans. Names follow the COVESA Vehicle Signal Specification where it has one.

[fleet]
name = "{name}"
vehicle = "vehicle"          # key column of a table
time = "ts"                  # event time
time_unit = "ms"             # since 1970, UTC

# One table a signal, in the order of the matrix. `min` and `max` are what its sensor can show, healthy or not:
# a value outside is a fault of the sensor.

{signals}
[context]
regime = [{regime}]  # what the vehicle is doing
{cohort}

[history]
run_to_failure = false       # a vehicle's last reading is not its failure; labels say what failed
healthy_share = 0.5          # of the time before a fault that counts as healthy
detected_before = 5          # readings before the end of a fault by which an alarm counts as detection

[baseline]
burn_in = 30                 # readings
restart_on = ["service", "firmware", "sensor", "no_fault"]

[model]
family = "distance"

[threshold]
kind = "adaptive"
adaptation = 0.2
false_alarms = 1.0           # budget: false-alarm episodes per 1,000 healthy vehicle-days

[alerts]
gap = 10                     # readings without alarm that end an episode
"""
