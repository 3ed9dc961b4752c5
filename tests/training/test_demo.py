"""The whole loop on a fleet: it closes, its figures come from its own log, a challenger that is noise is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from anomaly.errors import UsageError
from anomaly.service.rows import read_decisions
from anomaly.telemetry.records import Alert
from training.cli.demo import way_to_the_command
from training.demo import Summary, run_demo
from training.fit import Trained
from training.graph import Graph
from training.sample import empty_folder, find_sample


class Silent:
    """A screen that keeps what it is shown."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self.lines: list[str] = []

    def stage(self, text: str) -> None:
        """Kept."""
        self.lines.append(text)

    def line(self, text: str) -> None:
        """Kept."""
        self.lines.append(text)

    def progress(self, done: int, total: int) -> None:
        """Not kept."""

    def alert(self, alert: Alert) -> None:
        """Kept."""
        self.alerts.append(alert)


def scrambled(trained: Trained) -> Trained:
    """The same model with scores that jump from reading to reading: the fraction of a multiple of the features."""
    width, signals = trained.frame.width, len(trained.frame.signals)
    graph = Graph()
    wild = graph.row_sum(graph.node("Mul", "features", graph.constant(np.full(width, 1e3))))
    fraction = graph.node("Sub", wild, graph.node("Floor", wild))
    graph.node("Mul", fraction, graph.constant(trained.k * 1.01), name="score")
    graph.shares(graph.node("Mul", "features", "features"), signals)
    return trained._replace(onnx=graph.to_bytes(width, signals))


@pytest.fixture(scope="module")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary, Silent]:
    """One run on the shipped sample."""
    folder, screen = tmp_path_factory.mktemp("demo"), Silent()
    return folder, run_demo(find_sample(None, folder / "data"), folder, screen), screen


def test_the_loop_closes_and_every_reading_is_in_the_log(sample_run: tuple[Path, Summary, Silent]) -> None:
    """Alerts name vehicle, time and signals; a challenger is judged; all decided readings are in the decision log."""
    folder, summary, screen = sample_run
    first = next(alert for alert in screen.alerts if alert.state == "open")
    assert first.subject["vehicle"] in first.text
    assert sum(signal.share for signal in first.signals) == pytest.approx(1.0, abs=1e-3)
    assert summary.gate.passed
    assert summary.verdict in {"promoted", "rolled back", "held"}
    assert 0.98 * summary.readings < len(read_decisions(folder / "run")) <= summary.readings
    assert summary.figures.detected > 0.5
    assert summary.figures.false_alarms_per_1000_days < 2


def test_both_arms_score_and_are_named_in_the_decisions(sample_run: tuple[Path, Summary, Silent]) -> None:
    """After the rollout began, half of the vehicles score with the challenger, and each decision says so."""
    folder, _, _ = sample_run
    arms = read_decisions(folder / "run")["arm"].to_pandas().value_counts()
    assert {"champion", "challenger-2/champion", "challenger-2/challenger"} == set(arms.index)
    assert 0.7 < arms["challenger-2/champion"] / arms["challenger-2/challenger"] < 1.4


def test_another_fleet_gives_other_figures_and_a_challenger_of_noise_is_refused(
    tmp_path: Path, sample_run: tuple[Path, Summary, Silent]
) -> None:
    """Nothing on the last screen is fixed; and the gate stops a challenger whose scores are scrambled."""
    screen = Silent()
    summary = run_demo(find_sample(5, tmp_path / "data"), tmp_path, screen, scrambled)
    assert summary.figures != sample_run[1].figures
    assert (summary.verdict, summary.champion) == ("refused", "sample/1")
    assert summary.gate.reasons


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    """What a person has in a folder is never removed; what an earlier demo left is."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="no demo made it"):
        empty_folder(mine)
    empty_folder(tmp_path / "demo")
    (tmp_path / "demo" / "old").touch()
    empty_folder(tmp_path / "demo")
    assert not (tmp_path / "demo" / "old").exists()


def test_who_cannot_call_the_command_yet_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `make demo` the next steps start with a command that only the virtual environment has."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert way_to_the_command() is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert str(Path(sys.prefix) / "bin" / "activate") in (way_to_the_command() or "")
