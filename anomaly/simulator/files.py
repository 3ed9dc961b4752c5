"""A simulated fleet as files: Parquet tables, a fleet file that fits them, and what made them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from anomaly.errors import DataError
from anomaly.simulator.config import SimulationConfig
from anomaly.simulator.signals import REGIME, SCORED, Channel
from anomaly.simulator.simulate import Simulation

TABLES = ("readings", "events", "labels", "truth")
ROW_GROUP = 1 << 17


def write(simulation: Simulation, folder: Path) -> list[Path]:
    """Write `readings`, `events`, `labels`, `truth` (.parquet), `fleet.toml` and `simulation.toml` into `folder`.

    Files of these names are replaced. The same simulation gives the same bytes, with the same version of pyarrow.
    Raises DataError where the folder cannot be written.
    """
    texts = {
        "fleet.toml": fleet_toml(simulation.config),
        "simulation.toml": simulation_toml(simulation.config, simulation.seed),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            _write_table(getattr(simulation, name), folder / f"{name}.parquet")
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"the simulated fleet cannot be written to {folder}: {error}") from error
    return [folder / f"{name}.parquet" for name in TABLES] + [folder / name for name in texts]


def simulation_toml(config: SimulationConfig, seed: int) -> str:
    """The text of `simulation.toml`: every setting, and the seed."""
    values = {name: getattr(config, name) for name in config.__struct_fields__}
    lines = [f"{name} = {json.dumps(value, default=str)}" for name, value in values.items()]
    return "\n".join(["# What made this simulated fleet: the generator's settings and its seed.",
                      f"seed = {seed}", *lines, ""])  # fmt: skip


def fleet_toml(config: SimulationConfig) -> str:
    """The text of a fleet file for the simulated fleet: active as it is, the rest as comments."""
    signals = "\n".join(_signal(name, channel) for name, channel in SCORED.items())
    regime = ", ".join(f'"{name}"' for name in REGIME)
    return FLEET.format(name=config.name, signals=signals, regime=regime)


def _signal(name: str, channel: Channel) -> str:
    return f'[signals."{name}"]\nunit = "{channel.unit}"\nmin = {channel.low}\nmax = {channel.high}\n'


def _write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", compression_level=12, row_group_size=ROW_GROUP)


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
# cohort = ["type", "region"]  # take off what vehicles of one type and region have in common: season, weather, firmware
# period = "1d"

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
