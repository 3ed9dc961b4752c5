"""Tests of `anomaly init`: the file it writes is active, sufficient and safe to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anomaly import fleet as fleets
from anomaly import settings
from anomaly.cli.init import Request, fleet_file, init
from anomaly.cli.keys import KEYS
from anomaly.errors import DataError, UsageError
from anomaly.fleet import Fleet
from anomaly.telemetry.files import read_history
from anomaly.telemetry.survey import survey

VEHICLES = 44
RNG = np.random.default_rng(2)


def history(path: Path, length: int = 80, **columns: Any) -> Path:
    """A small history with one signal and more columns, a reading a minute."""
    rows = VEHICLES * length
    bus, at = np.repeat(np.arange(VEHICLES), length), np.tile(np.arange(length), VEHICLES)
    times = pd.to_datetime(at * 60 + 1_767_225_600, unit="s")
    wear = at / 30 + RNG.normal(size=rows)
    frame = pd.DataFrame({"bus": bus, "at": times, "wear": wear})
    for name, column in columns.items():
        frame[name] = column(bus, wear)
    frame.to_parquet(path, index=False)
    return path


def written(path: Path, **changes: str) -> str:
    """The fleet file for a history."""
    request = Request(path, **({"vehicle": "bus", "time": "at", "name": "buses"} | changes))
    return fleet_file(request, survey(path, request.vehicle, request.time))


@pytest.mark.parametrize("name", ["train_FD001", "train_FD002"])
def test_what_it_writes_for_turbofans_is_active_and_sufficient(real_data: Path, tmp_path: Path, name: str) -> None:
    """The file of the real command can be loaded as it is, and reads the history that it was written from."""
    source = real_data / "cmapss" / f"{name}.parquet"
    command = [sys.executable, "-m", "anomaly.cli.main", "init", str(source), "--vehicle", "unit", "--time", "cycle"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (tmp_path / "fleet.toml").write_text(done.stdout)
    fleet = fleets.load(tmp_path / "fleet.toml")
    assert (fleet.name, fleet.fleet.time_unit) == (name, "cycles")
    assert len(fleet.context.regime) == (3 if name == "train_FD002" else 0)
    assert np.isfinite(read_history(source, fleet).values).all()
    assert "signals to score" in done.stderr
    assert not fleet.history.run_to_failure
    assert "# run_to_failure = false" in done.stdout


def test_only_what_was_found_is_active(tmp_path: Path) -> None:
    """Beside the fleet, its signals, their stuck limits and the family of a single signal, all is at its default."""
    fleet = settings.parse(written(history(tmp_path / "h.parquet")), Fleet, "f")
    head = '[fleet]\nname = "buses"\nvehicle = "bus"\ntime = "at"\ntime_unit = "ms"\n'
    assert fleet == settings.parse(head + '[signals.wear]\nstuck_after = 10\n[model]\nfamily = "auto"\n', Fleet, "f")


def test_every_setting_is_shown_and_every_default_is_right(tmp_path: Path) -> None:
    """With the comments of all defaults made active, the file means the same."""
    text = written(history(tmp_path / "h.parquet"))
    lines = text.splitlines()
    assert all(any(f"{path.rpartition('.')[2]} = " in line for line in lines) for path in KEYS)
    active = [line.removeprefix("# ") if " = " in line and not line.startswith("#  ") else line for line in lines]
    shown = [line for line in active if "cohort = []" not in line and " = ..." not in line]
    assert settings.parse("\n".join(shown), Fleet, "f") == settings.parse(text, Fleet, "f")


ODD = [
    "oil pressure [kPa]",
    "température",
    "a.b",
    "7",
    'quo"te',
    "new\nline\n[stream]\npartitions = 9",
    "back\\slash",
    "",
]


def test_odd_names_are_quoted_or_left_out(tmp_path: Path) -> None:
    """Any printable name becomes a signal; what no signal may be called stays a harmless comment."""
    odd = {name: lambda _, wear: wear + RNG.normal(size=len(wear)) for name in ODD}
    fleet = settings.parse(written(history(tmp_path / "h.parquet", **odd)), Fleet, "f")
    assert list(fleet.signals) == ["wear", *ODD[:4]]
    assert fleet.stream.partitions == 4


def test_odd_key_columns_are_quoted(tmp_path: Path) -> None:
    """The columns for vehicle and time may be called anything."""
    frame = pd.read_parquet(history(tmp_path / "h.parquet")).rename(columns={"bus": 'b"us\\\n', "at": "[at]\n#"})
    frame.to_parquet(tmp_path / "h.parquet", index=False)
    fleet = settings.parse(written(tmp_path / "h.parquet", vehicle='b"us\\\n', time="[at]\n#"), Fleet, "f")
    assert (fleet.fleet.vehicle, fleet.fleet.time) == ('b"us\\\n', "[at]\n#")


def test_a_cohort_is_offered_not_set(tmp_path: Path) -> None:
    """Groups of at least 20 vehicles are a comment with their number."""
    path = history(tmp_path / "h.parquet", type=lambda bus, _: np.where(bus % 2 == 0, "x", "y"))
    text = written(path)
    assert settings.parse(text, Fleet, "f").context.cohort is None
    assert '# cohort = ["type"]' in text
    assert "2 groups, at least 22 vehicles in each" in text
    assert "# cohort = []" in written(history(tmp_path / "h.parquet"))


def test_what_was_seen_is_no_limit(tmp_path: Path) -> None:
    """Ranges are comments: no signal gets a minimum or maximum from observation."""
    signal = settings.parse(written(history(tmp_path / "h.parquet")), Fleet, "f").signals["wear"]
    assert (signal.min, signal.max) == (None, None)


def test_the_burn_in_fits_the_history(tmp_path: Path) -> None:
    """Vehicles with few readings get a shorter burn-in; elsewhere a remark says how long it lasts."""
    short = written(history(tmp_path / "h.parquet", length=24))
    assert settings.parse(short, Fleet, "f").baseline.burn_in == 4
    assert "30 readings last about 30 min here" in written(history(tmp_path / "h.parquet"))


def test_the_name_of_a_fleet_is_its_files_or_as_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file's name becomes a name that topics can have; a given name is taken as it is."""
    path = history(tmp_path / "my buses (1).parquet")
    for given, expected in (("", "my-buses-1"), ("north", "north")):
        init(path, "bus", "at", given, "")
        assert settings.parse(capsys.readouterr().out, Fleet, "f").name == expected


def test_a_time_unit_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is asked for is written; what is no unit is refused with those that are."""
    path = history(tmp_path / "h.parquet")
    init(path, "bus", "at", "", "s")
    assert settings.parse(capsys.readouterr().out, Fleet, "f").fleet.time_unit == "s"
    with pytest.raises(UsageError, match="one of ms, s, cycles"):
        init(path, "bus", "at", "", "hours")


def test_nothing_is_printed_when_the_history_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal leaves standard output empty, so that no broken file is written."""
    with pytest.raises(DataError, match="column `buss` is missing"):
        init(history(tmp_path / "h.parquet"), "buss", "at", "", "")
    assert capsys.readouterr().out == ""


def test_a_bad_name_or_twice_the_same_column_is_refused(tmp_path: Path) -> None:
    """What would make a file that cannot be loaded is refused before anything is written."""
    path = history(tmp_path / "h.parquet")
    with pytest.raises(UsageError, match="--vehicle and --time"):
        init(path, "at", "at", "", "")
    with pytest.raises(UsageError, match="--name a b"):
        init(path, "bus", "at", "a b", "")
