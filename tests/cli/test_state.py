"""Tests of `anomaly state`: what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anomaly.cli.state import app
from anomaly.errors import StateError, UsageError

FLEET = '[fleet]\nname = "bus"\nvehicle = "v"\ntime = "t"\ntime_unit = "s"\n[signals.a]\n[signals.b]\n'


def forecast(*words: str) -> dict[str, float]:
    """What `state forecast --json` prints."""
    done = CliRunner().invoke(app, ["forecast", *words, "--json"], catch_exceptions=False)
    return dict(json.loads(done.stdout))


def test_a_forecast_is_a_process_and_its_vehicles() -> None:
    """Memory is the base and the state; twice the vehicles are twice the state, more signals are more bytes."""
    one, two = (forecast("--signals", "10", "--vehicles", count) for count in ("600000", "1200000"))
    assert one["memory"] == one["base"] + one["state"]
    assert two["state"] == pytest.approx(2 * one["state"], rel=0.02)
    assert forecast("--signals", "20", "--vehicles", "600000")["bytes_a_vehicle"] > 1.5 * one["bytes_a_vehicle"]


def test_a_fleet_file_says_how_many_stay_in_memory(tmp_path: Path) -> None:
    """Vehicles above the capacity of all partitions are on disk alone."""
    (tmp_path / "fleet.toml").write_text(f"{FLEET}[stream]\npartitions = 2\n[state]\ncapacity = 100\n")
    found = forecast("--config", str(tmp_path / "fleet.toml"), "--vehicles", "1000")
    assert found["in_memory"] == 200
    assert found["disk"] > 800 * found["bytes_a_vehicle"]


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    """Neither or both of fleet file and signals, and a run that is not there."""
    (tmp_path / "fleet.toml").write_text(FLEET)
    config = ["--config", str(tmp_path / "fleet.toml")]
    for words in ([], [*config, "--signals", "2"]):
        with pytest.raises(UsageError, match="--signals D"):
            forecast("--vehicles", "10", *words)
    with pytest.raises(StateError, match="holds no run"):
        CliRunner().invoke(app, ["stats", *config, "--dir", str(tmp_path)], catch_exceptions=False)
