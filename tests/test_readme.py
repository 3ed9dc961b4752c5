"""What the README tells a person to type works, in an empty folder, on data like theirs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVER = "--bootstrap-server localhost:9092"


def commands() -> list[str]:
    """Every line of the README that begins with `anomaly`, in order."""
    blocks = re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [line.split("    #")[0] for block in blocks for line in block.splitlines() if line.startswith("anomaly ")]


def histories(folder: Path) -> None:
    """Two Parquet files of machines that wear out: columns unit, cycle, and three sensors."""
    for name, seed in (("history", 0), ("later", 1)):
        rng = np.random.default_rng(seed)
        units, cycles = np.divmod(np.arange(30 * 120), 120)
        wear = np.clip(cycles - 60, 0, None)[:, None] * [0.1, -0.1, 0.0]
        sensors = rng.normal(0, 1, (len(units), 3)) + rng.normal(0, 2, (30, 3))[units] + wear
        columns = {f"sensor_{place}": sensors[:, place].astype(np.float32) for place in range(3)}
        pq.write_table(pa.table({"unit": units, "cycle": cycles + 1, **columns}), folder / f"{name}.parquet")


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type `line` in `folder`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = ["bash", "-c", line]
    return subprocess.run(
        shell, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_readme_has_commands_to_run() -> None:
    """The extraction finds the commands, so that the tests below test something."""
    assert [line.split()[1] for line in commands()] == ["init", "train", "backtest", "topics", "produce", "score"]


@pytest.mark.parametrize("log", ["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def test_every_command_of_the_readme_works(log: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """In the README's order, on the embedded log and on a real Kafka; only `score` is told to stop at the end."""
    where = "--log fleet.db" if log == "embedded" else f"--bootstrap-server {request.getfixturevalue('kafka')}"
    histories(tmp_path)
    for line in commands():
        typed = line.replace(SERVER, where)
        if " score " in line:
            typed += " --stop-at-end --metrics-port 0"
        answer = run(typed, tmp_path)
        assert answer.returncode == 0, f"{typed}\n{answer.stdout}\n{answer.stderr}"
    decided = list((tmp_path / "run" / "history" / "state").rglob("*.db"))
    assert decided
