"""A written fleet is complete: same bytes for the same seed, and a fleet file that is active as it is."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from anomaly import fleet, settings
from anomaly.errors import DataError
from anomaly.simulator import SimulationConfig, SimulationFile, scenario, simulate, write
from anomaly.simulator.signals import REGIME, SCORED

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "data" / "samples"
CONFIG = SimulationConfig(name="tiny", vehicles=8, days=30, faults=0.5)


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_same_bytes(tmp_path: Path) -> None:
    """The same config and seed write the same bytes; another seed writes others, in all but the fleet file."""
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        write(CONFIG, seed, tmp_path / name)
    one, again, other = (digests(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert [name for name in one if one[name] == other[name]] == ["fleet.toml"]


def test_fleet_file_fits(tmp_path: Path) -> None:
    """The fleet file is valid, names every signal in order, and its columns are in the readings."""
    write(CONFIG, 1, tmp_path)
    loaded = fleet.load(tmp_path / "fleet.toml")
    assert list(loaded.signals) == list(SCORED)
    assert loaded.context.regime == tuple(REGIME)
    assert loaded.context.cohort is None
    columns = pq.read_schema(tmp_path / "readings.parquet").names
    assert {loaded.fleet.vehicle, loaded.fleet.time, *loaded.columns, *loaded.context_fields} <= set(columns)


def test_simulation_file_repeats_it(tmp_path: Path) -> None:
    """`simulation.toml` holds all that is needed to make the same fleet again."""
    write(CONFIG, 3, tmp_path)
    recipe = settings.load(tmp_path / "simulation.toml", SimulationFile)
    again, told = simulate(recipe.config, recipe.seed), simulate(CONFIG, 3)
    assert again.readings.equals(told.readings)
    assert pq.read_table(tmp_path / "readings.parquet").equals(told.readings)


def test_history_and_later_are_the_two_parts(tmp_path: Path) -> None:
    """A scenario's readings are written whole, and cut by time into what to train on and what to test on."""
    config = scenario("D", vehicles=6, days=30)
    made = write(config, 1, tmp_path)
    whole, history, later = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("readings", "history", "later"))
    assert whole.num_rows == history.num_rows + later.num_rows == made.readings
    assert pc.max(history["ts"]).as_py() < config.train_until_ms <= pc.min(later["ts"]).as_py()
    assert fleet.load(tmp_path / "fleet.toml").context.cohort == ("type", "region")


def test_unwritable_folder_is_refused(tmp_path: Path) -> None:
    """A folder that cannot be made is refused with its name."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written to .*file"):
        write(CONFIG, 1, tmp_path / "file")


def test_samples_are_what_they_say() -> None:
    """The sample fleet is what its own recipe makes, value by value, and has at least 200 vehicles."""
    recipe = settings.load(SAMPLES / "simulation.toml", SimulationFile)
    made = simulate(recipe.config, recipe.seed)
    for name in ("readings", "events", "labels", "truth", "nuisances"):
        assert pq.read_table(SAMPLES / f"{name}.parquet").equals(getattr(made, name)), name
    assert recipe.vehicles >= 200


def test_samples_readme_names_the_command(tmp_path: Path) -> None:
    """The command in the samples' README writes the very configurations that lie beside it."""
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    command = next(line for line in readme.splitlines() if line.startswith("anomaly simulate fleet"))
    arguments = [str(tmp_path) if word == "data/samples" else word for word in command.split()[1:]]
    subprocess.run([sys.executable, "-m", "anomaly.cli.main", *arguments], check=True, capture_output=True)
    for name in ("simulation.toml", "fleet.toml"):
        assert (tmp_path / name).read_text() == (SAMPLES / name).read_text()


def test_samples_stay_small() -> None:
    """The sample fleet travels in the wheel: it takes at most 3 MB."""
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 3_000_000
