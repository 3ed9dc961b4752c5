"""The sample fleet: the shipped one, or another like it from the simulator."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from anomaly import fleet as fleets
from anomaly import settings
from anomaly.errors import UsageError
from anomaly.fleet import Fleet
from anomaly.simulator.config import SimulationFile
from anomaly.simulator.files import write

WHOLE_LOG = """
[log]
decisions = "all"            # a small fleet: every decision is kept, and the figures come from them
"""
TABLES = ("readings", "events", "labels", "truth", "nuisances")
FILES = ("fleet.toml", "simulation.toml", *(f"{name}.parquet" for name in TABLES))
MARK = ".demo"


class Sample(NamedTuple):
    """A fleet's files."""

    fleet: Fleet
    readings: Path
    events: Path
    labels: Path


def shipped(name: str) -> Path:
    """A folder that the wheel carries (`samples`, `models`), or its place in a checkout."""
    import anomaly

    package = Path(anomaly.__file__).parent
    carried = package / "_shipped" / name
    checkout = {"samples": package.parent / "data" / "samples", "models": package.parent / "models"}
    return carried if carried.is_dir() else checkout[name]


def find_sample(seed: int | None, folder: Path) -> Sample:
    """The sample's files in `folder`: the shipped ones, or with a seed those that the simulator makes of it."""
    folder.mkdir(parents=True, exist_ok=True)
    if seed is None:
        for name in FILES:
            shutil.copyfile(shipped("samples") / name, folder / name)
    else:
        config = settings.load(shipped("samples") / "simulation.toml", SimulationFile).config
        write(config, seed, folder)
    with (folder / "fleet.toml").open("a", encoding="utf-8") as file:
        file.write(WHOLE_LOG)
    return Sample(
        fleet=fleets.load(folder / "fleet.toml"),
        readings=folder / "readings.parquet",
        events=folder / "events.parquet",
        labels=folder / "labels.parquet",
    )


def empty_folder(folder: Path) -> None:
    """Make `folder` empty: what an earlier demo left is removed, anything else is refused."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise UsageError(f"{folder} is not empty and no demo made it; give another --dir")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
