"""`anomaly simulate fleet` writes a fleet, and refuses settings that make no sense."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a person calls it."""
    return subprocess.run([sys.executable, "-m", "anomaly.cli.main", "simulate", "fleet", *arguments],
                          capture_output=True, text=True, check=False)  # fmt: skip


def test_writes_a_fleet(tmp_path: Path) -> None:
    """It writes four tables and two configurations, and says what failed."""
    done = run("--vehicles", "9", "--days", "30", "--seed", "2", "--step", "12h", "--out", str(tmp_path / "fleet"))
    assert done.returncode == 0, done.stderr
    names = {"readings.parquet", "events.parquet", "labels.parquet", "truth.parquet", "fleet.toml", "simulation.toml"}
    assert {path.name for path in (tmp_path / "fleet").iterdir()} == names
    assert done.stdout.startswith("9 vehicles, ")
    assert "failures: " in done.stdout


def test_refuses_what_cannot_be(tmp_path: Path) -> None:
    """A wrong start or step is a usage error in one line, and nothing is written."""
    for wrong in (["--start", "yesterday"], ["--step", "2d"], ["--vehicles", "0"]):
        done = run("--out", str(tmp_path / "fleet"), *wrong)
        assert done.returncode == 2
        assert done.stderr.startswith("anomaly: this fleet cannot be simulated")
    assert not (tmp_path / "fleet").exists()
