"""`anomaly simulate fleet` writes a fleet, and refuses settings that make no sense."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a person calls it."""
    return subprocess.run([sys.executable, "-m", "anomaly.cli.main", "simulate", "fleet", *arguments],
                          capture_output=True, text=True, check=False)  # fmt: skip


def test_writes_a_fleet(tmp_path: Path) -> None:
    """It writes five tables and two configurations, and says what failed."""
    done = run("--vehicles", "9", "--days", "30", "--seed", "2", "--every", "12h", "--out", str(tmp_path / "fleet"))
    assert done.returncode == 0, done.stderr
    tables = {f"{name}.parquet" for name in ("readings", "events", "labels", "truth", "nuisances")}
    assert {path.name for path in (tmp_path / "fleet").iterdir()} == tables | {"fleet.toml", "simulation.toml"}
    assert done.stdout.startswith("9 vehicles, ")
    assert "failures: " in done.stdout


def test_refuses_what_cannot_be(tmp_path: Path) -> None:
    """A wrong start or step is a usage error in one line, and nothing is written."""
    for wrong in (["--start", "yesterday"], ["--every", "2d"], ["--vehicles", "0"], ["--kinds", "rust"]):
        done = run("--out", str(tmp_path / "fleet"), *wrong)
        assert done.returncode == 2
        assert "this fleet cannot be simulated" in done.stderr
    assert not (tmp_path / "fleet").exists()


def test_lists_the_scenarios() -> None:
    """What can be asked for by name is listed, also for programs."""
    command = [sys.executable, "-m", "anomaly.cli.main", "simulate", "scenarios"]
    lines, told = (subprocess.run([*command, *more], capture_output=True, text=True, check=True).stdout
                   for more in ([], ["--json"]))  # fmt: skip
    assert [line.split()[0] for line in lines.splitlines()] == list(json.loads(told))
    assert json.loads(told)["J"]["faults"] == 0.0
