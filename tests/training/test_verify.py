"""The statistics on some hundred simulated experiments; `anomaly experiment verify` does thousands."""

from __future__ import annotations

import numpy as np
import pytest

from training.experiments.verify import Figure, _figure, cases, verify


@pytest.fixture(scope="module")
def figures() -> list[Figure]:
    """All cases, some runs of each."""
    return verify(50)


def test_every_demand_is_met(figures: list[Figure]) -> None:
    """No method errs more often than it says, effects are found, and the two wrong ways of looking do fail."""
    assert [figure for figure in figures if not figure.met] == []
    controls = {figure.method: figure.rejected for figure in figures if figure.demand == "above"}
    assert set(controls) == {"readings as units", "without the gate"}


def test_what_was_adjusted_is_found_sooner(figures: list[Figure]) -> None:
    """The pre-period shortens the median run."""
    found = {figure.method: figure for figure in figures if figure.world == "20 % fewer false alarms"}
    assert found["sequence, CUPED"].median_vehicles < found["sequence"].median_vehicles


def test_a_method_that_errs_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a boundary that a single look would have, the sequence misses its demand: the check can fail."""
    from anomaly.experiments import confidence_sequence

    monkeypatch.setattr(confidence_sequence, "critical_z", lambda *_: 1.96)
    case = cases()[0]
    stops = np.array([case.judge(seed)["sequence"] for seed in range(60)])
    assert not _figure(case, "sequence", stops).met
