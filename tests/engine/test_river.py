"""What the kernels gather over time is what River's statistics gather."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from river import stats

from anomaly.engine import arrays
from anomaly.engine import engine as engines
from anomaly.engine.layout import FAST, SLOW
from anomaly.telemetry.batch import Batch
from tests.engine import world

TEXT = """
[fleet]
name = "river"
vehicle = "v"
time = "t"
time_unit = "cycles"
[signals.a]
[signals.b]
[signals.c]
[context]
regime = ["load"]
"""
BURN_IN, COUNT = 6, 300


def features(kind: type[np.floating[Any]], monkeypatch: pytest.MonkeyPatch) -> np.ndarray[Any, Any]:
    """Wide features of one vehicle after its burn-in, [n, 6, 3], with state and results as arrays of `kind`."""
    engine = engines.Engine(world.fleet(TEXT), world.frame(features="wide", cohort=None, period=0))
    engine._state.slots(engines.Text.of(["v"]))
    state = engine._state.arrays
    engine._state.arrays = state._replace(f4=state.f4[:1].astype(kind))
    made = arrays.observed

    def observed(*arguments: Any) -> Any:
        out = made(*arguments)
        return out._replace(features=out.features.astype(kind), scratch=out.scratch.astype(kind))

    monkeypatch.setattr(arrays, "observed", observed)
    monkeypatch.setattr(engines, "observe", engines.first_pass)  # the one that looks at the types
    rng = np.random.default_rng(3)
    values = np.column_stack([rng.normal([0, 10, -5], 2, (COUNT, 3)), np.zeros(COUNT)]).astype(np.float32)
    out = engine.features(
        Batch.of(["v"] * COUNT, np.arange(COUNT), values, {"region": [None] * COUNT}, np.arange(COUNT))
    )
    return out.features[BURN_IN:, :18].reshape(-1, 6, 3)


@pytest.mark.parametrize(("kind", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-4)])
def test_means_and_variance_over_time_are_rivers(
    kind: type[np.floating[Any]], tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64 they agree to 1e-9 with River's EWMean and EWVar of the same deviations, in float32 to 1e-4."""
    found = features(kind, monkeypatch).astype(np.float64)
    for signal in range(3):
        means = [stats.EWMean(fading_factor=float(weight)) for weight in (np.float32(0.25), FAST, SLOW)]
        variance = stats.EWVar(fading_factor=0.25)
        for statistic in (*means, variance):
            statistic.update(0.0)  # evidence begins at nothing, River's at its first value
        for row in found[:, :, signal]:
            for statistic in (*means, variance):
                statistic.update(row[0])
            expected = [*(mean.get() for mean in means), variance.get()]
            assert [*row[2:5], row[5] ** 2] == pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_changes_are_differences_of_deviations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second block is the deviation less the one before."""
    found = features(np.float32, monkeypatch)
    assert np.array_equal(found[1:, 1], found[1:, 0] - found[:-1, 0])
