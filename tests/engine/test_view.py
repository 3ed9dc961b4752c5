"""What is shown of one vehicle is what its next reading is held against."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.engine.events import Event
from anomaly.telemetry.batch import Batch
from tests.engine import world
from tests.engine.world import readings

NORMAL = (0.0, 10.0, -5.0, 0.0)


def moved_together(hours: int = 240) -> Batch:
    """Thirty vehicles of one cohort, a reading an hour each; signal a rises by three spreads halfway."""
    rng = np.random.default_rng(0)
    rows = np.array(NORMAL) + rng.normal(0, 1, (hours * 30, 4)) * [1, 2, 1, 0]
    rows[:, 0] += 3.0 * (np.arange(hours * 30) >= hours * 15)
    context = {"type": ["t0"] * 30 * hours, "region": [None] * 30 * hours}
    names = [f"v{n}" for n in range(30)] * hours
    return Batch.of(
        names, np.repeat(np.arange(hours) * 10, 30), rows.astype(np.float32), context, np.arange(30 * hours)
    )


def test_what_is_expected_is_the_fleets_and_the_cohorts_and_its_own() -> None:
    """With a cohort that moved, the parts sum to what the engine held the vehicle's last reading against."""
    engine, batch = world.engine(world.arm(k=0.01), text=f"{world.FLEET}lasting_after = 0\n"), moved_together()
    evidence = engine.decide(batch).evidence
    view = engine.vehicle("v29")
    assert view is not None
    assert view.cohort[0] == pytest.approx(3.0, abs=0.5)
    np.testing.assert_allclose(view.expected, np.sum([view.fleet, view.cohort, view.own], axis=0))
    np.testing.assert_allclose(view.expected, evidence.expected[-1], rtol=1e-5)


def apart(hours: int = 240, ill: int = 0) -> Batch:
    """As above, but in the second half signal a goes up in half of the vehicles and down in the others, which leaves
    the middle of the cohort where it was; or in `ill` vehicles alone."""
    batch = moved_together(hours)
    row = np.arange(len(batch))
    who, later = row % 30, row >= hours * 15
    batch.values[later, 0] -= 3.0
    batch.values[:, 0] += np.where(later & (who < (ill or 30)), np.where(who % 2, 2.0, -2.0), 0.0)
    return batch


@pytest.mark.parametrize(("ill", "divided"), [(0, True), (3, False)], ids=["all", "three of thirty"])
def test_evidence_is_worth_less_where_that_of_the_cohort_is_large_and_the_shares_say_so(
    ill: int, divided: bool
) -> None:
    """Vehicles react unlike to what moves them all: where most have several times the usual evidence of a signal, it is
    divided by that, of other signals it is not; a few that are ill change nothing, nor does evidence that had no time
    to gather. The view says what decisions say."""
    batch, text = apart(ill=ill), f"{world.FLEET}lasting_after = 0\n"
    usual = (0.6, 0.8, 0.8)
    plain, scaling = (world.engine(world.arm(k=0.01), made=world.frame(usual=size), text=text) for size in ((), usual))
    before, after = (engine.decide(batch) for engine in (plain, scaling))
    by = before.features[-1, :3] / after.features[-1, :3]
    assert (by[0] > 2.0) == divided
    assert (by[1:] < 1.3).all()
    np.testing.assert_array_equal(after.features[: 30 * 30], before.features[: 30 * 30])
    np.testing.assert_allclose(scaling.shares("v29"), after.evidence.share[-1], rtol=1e-5)


def test_a_signal_that_learns_its_baseline_again_has_nothing_of_its_own() -> None:
    """While its readings are summed up, the fleet's prior is what is usual of it."""
    frame = world.frame(cohort=None, period=0)
    engine = world.engine(made=frame)
    engine.add_events([Event("s", "v0", 100, signals=(1,))])
    engine.decide(readings([(1.0, 14.0, -4.0, 0.0)] * 13))
    view = engine.vehicle("v0")
    assert view is not None
    assert view.own[1] == 0.0
    assert view.own[0] != 0.0
