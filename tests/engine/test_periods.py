"""Periods of cohorts: what engines that share the vehicles count, merged, leads to what one engine decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.engine import layout
from anomaly.engine.cohorts import Partial, summed
from anomaly.engine.engine import Engine
from anomaly.telemetry.batch import Batch
from tests.engine import world

VEHICLES, STEPS = 60, 100


def moving(seed: int) -> Batch:
    """Two cohorts of 30 vehicles that send every 10 ticks, six times a period; the first moves away slowly."""
    rng = np.random.default_rng(seed)
    count = VEHICLES * STEPS
    who, step = np.arange(count) % VEHICLES, np.arange(count) // VEHICLES
    values = np.tile([0.0, 10.0, -5.0, 0.0], (count, 1)) + rng.normal(0, 0.3, (count, 4)) * [1, 1, 1, 0]
    values[:, 0] += np.where(who % 2 == 0, np.clip(step - 20, 0, 60) * 0.05, 0.0)
    context = {"type": [f"t{n % 2}" for n in who], "region": [None] * count}
    names = [f"v{n}" for n in who]
    return Batch.of(names, (10 * step).astype(np.int64), values.astype(np.float32), context, np.arange(count))


def play(engines: list[Engine], parts: list[Batch]) -> list[np.ndarray]:
    """All of each engine's part, in turn; a period is merged once every engine told of it. Scores by engine."""
    told: list[dict[int, Partial]] = [{} for _ in engines]
    left, scores = list(parts), [[] for _ in engines]
    for _ in range(60 * len(engines)):
        for number, engine in enumerate(engines):
            outcome = engine.decide(left[number])
            scores[number].append(outcome.decisions.score)
            left[number] = left[number].rows(len(outcome.status), len(left[number]))
            told[number] |= {partial.period: partial for partial in engine.closed()}
            period = engine.awaited
            if len(left[number]) and all(max(each, default=-9) >= period for each in told):
                counts = summed(each[period].counts for each in told if period in each)
                engine.merge(Partial(period, counts))
    assert not any(map(len, left))
    return [np.concatenate(each) for each in scores]


def test_a_late_reading_does_not_count_and_is_counted() -> None:
    """A reading of a closed period leaves the histograms alone, and is one more of those that came too late."""
    batch, engine = moving(0), world.engine()
    late = batch.rows(1, VEHICLES)
    engine.decide(batch.take(np.flatnonzero(np.arange(len(batch)) % VEHICLES != 0)))
    before = engine._state.cohorts.arrays.histogram.sum()
    engine.decide(Batch.of(["new"] * 8, late.ts[:8] + np.arange(8), late.values[:8], _told(8), late.offsets[:8]))
    assert (engine.late, engine._state.cohorts.arrays.histogram.sum()) == (2, before)


def test_a_gap_is_caught_up_and_a_long_one_begins_anew() -> None:
    """After 5 silent periods the open one follows reading by reading; after 50 it is that of the readings at once."""
    for gap in (5, 50):
        batch, engine = moving(0), world.engine()
        engine.decide(batch)
        end = int(batch.ts[-1]) // 60 + gap
        later, ts = batch.rows(0, 120), end * 60 + 30 + np.repeat([0, 1], 60)
        engine.decide(Batch.of(later.vehicles.tolist(), ts, later.values, _told(120), later.offsets))
        cohorts = engine._state.cohorts.arrays
        assert cohorts.calendar[layout.OPEN] == end
        counted = (int(cohorts.histogram.any(axis=(2, 3)).sum()), int((cohorts.vehicles > 0).sum()))
        assert (counted == (1, 1)) is (gap == 50)


def test_a_delta_has_the_cohorts_that_changed() -> None:
    """One that is taken after more readings of a known cohort leads to the same state as the engine's own."""
    batch, engine, again = moving(0), world.engine(), world.engine()
    half = len(batch) // 2 + 7
    for part in (batch.rows(0, half), batch.rows(half, half + 90)):
        engine.decide(part)
        again.apply(list(engine.delta()))
    assert again.digest() == engine.digest()


def test_a_delta_has_the_cohort_whose_count_of_vehicles_alone_is_forgotten() -> None:
    """A vehicle, alone in its cohort, that sends nothing but a gap is counted; the count goes with its period."""
    batch, engine, again = moving(0), world.engine(), world.engine()
    who, step = np.arange(len(batch)) % VEHICLES, np.arange(len(batch)) // VEHICLES
    gap = (who == 1) & (step == 41)
    values = batch.values.copy()
    values[gap] = [np.nan, 1e9, np.nan, 0.0]
    whole = world.batch_of(batch, values)
    sent = (who % 2 == 0) | ((who == 1) & (step < 36)) | gap
    for period in range(STEPS // 6):
        engine.decide(whole.take(np.flatnonzero(sent & (step // 6 == period))))
        again.apply(list(engine.delta()))
    assert again.digest() == engine.digest()


def test_cohorts_beyond_the_most_go_without() -> None:
    """Of three cohorts where two may be, the last that comes is left out, and named."""
    text = world.FLEET.replace('cohort = ["type"]', 'cohort = ["type"]\nmax_cohorts = 2')
    engine = world.engine(text=text)
    values = np.tile(np.float32([0.0, 10.0, -5.0, 0.0]), (3, 1))
    context = {"type": ["t0", "t1", "t2"], "region": [None] * 3}
    engine.decide(Batch.of(["v0", "v1", "v2"], np.arange(3), values, context, np.arange(3)))
    assert engine.left_out == {"t2"}


def _told(count: int) -> dict[str, list[str | None]]:
    return {"type": ["t0"] * count, "region": [None] * count}


@pytest.mark.parametrize(("noise", "moved", "taken"), [(0.04, 0.04, True), (3.0, 0.04, False)])
def test_a_move_within_a_bin_is_taken_off_where_readings_scatter_little(
    noise: float, moved: float, taken: bool
) -> None:
    """A cohort that moves by less than half a bin is followed; what may be chance in wide readings is not."""
    rng, count = np.random.default_rng(1), VEHICLES * STEPS
    step = np.arange(count) // VEHICLES
    values = np.tile([0.0, 10.0, -5.0, 0.0], (count, 1)) + rng.normal(0, noise, (count, 4)) * [1, 0.3, 0.3, 0]
    values[:, 0] += np.where(step > 30, moved, 0.0)
    names, context = [f"v{n % VEHICLES}" for n in range(count)], {"type": ["t"] * count, "region": [None] * count}
    engine = world.engine()
    engine.decide(Batch.of(names, (10 * step).astype(np.int64), values.astype(np.float32), context, np.arange(count)))
    table = engine._state.cohorts
    assert (abs(table.known(0, table.awaited + 1)[0][0] - moved) < 0.02) == taken


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1_000), shares=st.integers(2, 4))
def test_engines_that_share_the_vehicles_decide_as_one(seed: int, shares: int) -> None:
    """However vehicles are dealt out, each score has the bits that one engine gives it; the move is taken off."""
    batch = moving(seed)
    home = np.random.default_rng(seed).integers(0, shares, VEHICLES)[np.arange(len(batch)) % VEHICLES]
    frame = world.frame(usual=(0.1, 0.1, 0.1))
    one = world.engine(made=frame)
    expected = one.decide(batch).decisions.score
    cohorts = one._state.cohorts.arrays
    assert np.abs(cohorts.shift).max() > 0.5
    assert cohorts.scale.max() > 1.1
    engines = [world.engine(made=frame) for _ in range(shares)]
    for engine in engines:
        engine.set_apart()
    rows = [np.flatnonzero(home == number) for number in range(shares)]
    found = play(engines, [batch.take(own) for own in rows])
    assert all(np.array_equal(expected[own], scores) for own, scores in zip(rows, found, strict=True))
