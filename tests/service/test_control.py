"""The controller beside a scorer, both as processes, told by files alone: back, forth, or held."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anomaly.experiments.state import State, read_audit, read_state
from anomaly.service.look import known, look
from anomaly.service.rows import read_decisions
from anomaly.stream.ports import Record
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.encode import encode_readings
from tests.service.rig import FLEET, FRAME, make_rig, publish

START = 1_700_006_400 // 86_400 * 86_400
A_DAY = 6
VEHICLES = 900
TEXT = """
id = "{id}"
label_delay_days = 0
min_days = 3
min_vehicles = 20
on_pass = "{on_pass}"
layer = {{ range = {range} }}
primary = {{ metric = "alerts" }}
guardrails = [{{ metric = "alerts", max_harm = 0.1, method = "first_event" }}]
[[arms]]
name = "old"
role = "control"
model = "{old}"
share = 0.5
[[arms]]
name = "new"
role = "treatment"
model = "{new}"
share = 0.5
{more}
"""
EXPERIMENTS = {
    "bad": {"range": [0, 3000], "old": "bus/1", "new": "bus/1", "on_pass": "hold", "more": "threshold = {scale = 0.5}"},
    "good": {"range": [3000, 7000], "old": "bus/2", "new": "bus/1", "on_pass": "promote", "more": ""},
    "equal": {"range": [7000, 10000], "old": "bus/1", "new": "bus/3", "on_pass": "promote", "more": ""},
}


def day(number: int) -> Batch:
    """A day of healthy readings of the whole fleet."""
    rng = np.random.default_rng(number)
    count = VEHICLES * A_DAY
    values = np.array(FRAME.mean[0]) + np.array(FRAME.sd[0]) * rng.normal(size=(count, 3))
    ts = START + 86_400 * number + 14_400 * (np.arange(count) // VEHICLES)
    who = [f"v{row % VEHICLES}" for row in range(count)]
    return Batch.of(who, ts, values.astype(np.float32), {}, np.arange(count))


class Live:
    """A fleet whose scorer and controller run as processes, and that lives on day by day."""

    def __init__(self, folder: Path) -> None:
        self.rig = make_rig(
            folder, folder / "models", FLEET.replace("checkpoint_every_s = 3600", "checkpoint_every_s = 0.1")
        )
        for k in (2.5, 1.7, 2.5001):
            publish(self.rig.registry, k=k)
        self.rig.registry.set_alias("bus", "champion", 2, "the first")
        self.run = folder / "run"
        self.today = 0
        self._config = config = [
            "--config",
            str(folder / "fleet.toml"),
            "--dir",
            str(self.run),
            "--models",
            str(folder / "models"),
        ]
        self._controller = ["experiment", "run", *config, "--every", "0.2"]
        self.scorer = self.anomaly("score", *config, "--log", str(self.rig.log_path), "--metrics-port", "0")
        self.controller = self.anomaly(*self._controller)

    def anomaly(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command as a person types it."""
        return subprocess.Popen([sys.executable, "-m", "anomaly.cli.main", *arguments], stderr=subprocess.DEVNULL)

    def anomaly_says(self, *arguments: str) -> str:
        """What a command prints."""
        command = [sys.executable, "-m", "anomaly.cli.main", *arguments, *self._config]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def live(self) -> None:
        """A day goes onto the log."""
        batch = day(self.today)
        self.today += 1
        values = encode_readings(batch, self.rig.fleet)
        self.rig.send("telemetry", [Record(v.encode(), one) for v, one in zip(batch.vehicles, values, strict=True)])

    def again(self) -> None:
        """The controller is killed in the middle of whatever it does, and started again."""
        self.controller.kill()
        self.controller.wait()
        self.controller = self.anomaly(*self._controller)

    def state(self, name: str) -> State | None:
        """Where an experiment stands."""
        return read_state(self.run / "experiments", name)

    def until(self, name: str, status: str, days: int) -> None:
        """Live on, killing the controller every third day, until the experiment has come to `status`."""
        until = self.today + days
        while self.status(name) != status:
            assert self.today < until, f"{name} is {self.status(name)}: {self.state(name)}"
            self.live()
            if self.today % 3 == 0:
                self.again()
            waited = time.monotonic() + 90
            while not self.looked(name) and self.status(name) != status:
                assert time.monotonic() < waited, "the controller does not look"
                time.sleep(0.05)

    def looked(self, name: str) -> bool:
        """Whether the controller has seen all but the last hours of what went onto the log."""
        newest = START + 86_400 * (self.today - 1)
        return any(entry.at >= newest for entry in read_audit(self.run / "experiments", name))

    def end(self) -> None:
        """Both processes are killed."""
        for process in (self.scorer, self.controller):
            process.kill()
            process.wait()

    def status(self, name: str) -> str:
        """In a word."""
        state = self.state(name)
        return "none" if state is None else state.status


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A fleet with two days behind it."""
    fleet = Live(tmp_path)
    try:
        yield fleet
    finally:
        fleet.end()


def test_a_bad_one_goes_back_a_good_one_is_promoted_an_equal_one_is_held(live: Live) -> None:
    """By files alone, with the controller killed every third day; nobody's baseline is learned again."""
    live.live()
    live.live()
    folder = live.run / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    for name, fields in EXPERIMENTS.items():
        (folder / f"{name}.toml").write_text(TEXT.format(id=name, **fields))
    live.until("bad", "rolled_back", 12)
    live.until("good", "promoted", 12)
    assert live.status("equal") == "running"
    assert live.rig.registry.aliases("bus") == {"champion": 1}
    assert read_audit(folder, "bad")[-1].act == "rolled bus/1 back"
    live.end()
    _baselines_were_kept(live)
    _the_past_is_known(live)
    _a_lost_ledger_is_counted_again(live)


def _baselines_were_kept(live: Live) -> None:
    table = read_decisions(live.run).sort_by([("vehicle", "ascending"), ("ts", "ascending")])
    warm, vehicle = table["warm"].to_numpy(), np.array(table["vehicle"].to_pylist())
    assert (np.diff(warm)[vehicle[1:] == vehicle[:-1]] >= 0).all()
    assert {"bad/new", "good/new", "equal/old"} <= set(table["arm"].to_pylist())


def _the_past_is_known(live: Live) -> None:
    """Which model and arm scored a vehicle at a time when the bad arm was running."""
    rows = read_decisions(live.run).to_pylist()
    treated = next(row for row in rows if row["arm"] == "bad/new")
    shown = live.anomaly_says("vehicle", "show", treated["vehicle"], "--at", str(treated["ts"]), "--group", "bus")
    assert "scored by bus/1 (arm bad/new)" in shown


def _a_lost_ledger_is_counted_again(live: Live) -> None:
    told, fleet = known(live.run, live.rig.fleet), live.rig.fleet
    state = live.state("equal")
    assert state is not None
    with_ledger = look(live.run, fleet, state, told)
    (live.run / "experiments" / "equal.vehicles.parquet").unlink()
    assert look(live.run, fleet, state, told) == with_ledger
