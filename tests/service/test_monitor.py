"""A run that is watched: limits are learned from its quiet time, kept beside the model, and a change is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anomaly.cli.feedback import app
from anomaly.errors import DataError, GateError, UsageError
from anomaly.feedback import drift
from anomaly.registry.store import Registry
from anomaly.service import monitor
from anomaly.service.monitor import Watched, learn
from tests.service.rig import Rig

BEGIN = 1_700_000_000


@pytest.fixture
def watched(scored: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """The small run in windows of five minutes; a third of its vehicles drift in its second half."""
    monkeypatch.setattr(monitor, "WINDOW_DAYS", 300 / 86_400)
    monkeypatch.setattr(drift, "LEAST", 30)
    shutil.copytree(scored.registry.folder, tmp_path / "models")
    return Watched(scored.folder / "run", scored.fleet, Registry(tmp_path / "models"))


def test_a_drift_is_named_and_the_quiet_time_is_not(watched: Watched) -> None:
    """Limits of the first half are passed by signal `a` in the second, and not by a window of the first."""
    reference = learn(watched, BEGIN + 300, BEGIN + 1_800)
    assert reference.windows == 5
    assert Registry(watched.registry.folder).verify(watched.registry.resolve("bus@champion"))
    drifted = [one.name for one in monitor.monitor(watched) if one.drifted]
    assert "stability of signal a:all" in drifted
    quiet = [one.name for one in monitor.monitor(watched, BEGIN + 1_799) if one.drifted and "signal" in one.name]
    assert quiet == []


def test_without_limits_the_way_to_them_is_said(watched: Watched) -> None:
    """Nothing is judged by a folk constant; a time that is too short to learn from is refused."""
    with pytest.raises(DataError, match=r"--calibrate FROM\.\.TO"):
        monitor.monitor(watched)
    with pytest.raises(UsageError, match="too few to calibrate"):
        learn(watched, BEGIN, BEGIN + 900)


def test_the_command_learns_and_judges(watched: Watched, scored: Rig) -> None:
    """Exit 1 names what is beyond its limit; --json lists all figures."""
    where = ["--config", str(scored.folder / "fleet.toml"), "--dir", str(watched.run)]
    arguments = ["monitor", *where, "--models", str(watched.registry.folder)]
    runner = CliRunner()
    learned = runner.invoke(app, [*arguments, "--calibrate", f"{BEGIN + 300}..{BEGIN + 1800}"], catch_exceptions=False)
    assert "from 5 quiet windows" in learned.stdout
    result = runner.invoke(app, [*arguments, "--json"])
    assert isinstance(result.exception, GateError)
    assert {"name", "value", "limit", "drifted"} == set(json.loads(result.stdout)[0])
