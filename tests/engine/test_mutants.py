"""What would otherwise go unseen if a single line of the kernels' state update were missing."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.engine.engine import Engine
from anomaly.engine.events import Event
from anomaly.engine.outcome import Outcome
from anomaly.telemetry.batch import Batch
from tests.engine import world
from tests.engine.reference import Reference

COUNT = 1_800


def readings(rows: list[tuple[float, ...]]) -> Batch:
    """Readings of one vehicle, one every ten seconds."""
    count = len(rows)
    context = {"type": ["t0"] * count, "region": [None] * count}
    return Batch.of(
        ["v0"] * count, np.arange(count) * 10, np.array(rows, np.float32), context, np.arange(count, dtype=np.int64)
    )


def test_the_first_value_of_a_vehicle_is_no_step() -> None:
    """A vehicle that was never seen has no last value, however far its first one is from 0."""
    outcome = world.engine().decide(readings([(0.0, 45.0, -5.0, 0.0)]))
    assert outcome.masked["step"] == 0


def test_a_gap_at_the_first_reading_has_nothing_to_repeat() -> None:
    """Where a gap repeats the last value, one in the first reading of a vehicle is a gap: nothing is learned of it."""
    engine = world.engine()
    engine.decide(readings([(0.0, np.nan, -5.0, 0.0)]))
    view = engine.vehicle("v0")
    assert view is not None
    assert view.evidence[1] == 0.0


def troubled(seed: int, calm: bool) -> Batch:
    """The stream of `world` with cohorts that move, vehicles that change or do not tell theirs, and long silences."""
    batch = world.stream(seed, COUNT)
    rng = np.random.default_rng(seed)
    who = np.array([int(name[1:]) for name in batch.vehicles])
    second = np.arange(COUNT) > COUNT // 2
    values = batch.values.copy()
    values[(who % 2 == 1) & second, 1] += 3.0
    values[(who == 0) & (np.arange(COUNT) % 40 < 12), 0] = np.nan
    values[(who == 2) & second & (np.arange(COUNT) % 3 == 0), 3] = np.nan
    kinds = who % 2 ^ ((who == 3) & (np.arange(COUNT) % 200 < 100))
    told = rng.random(COUNT) < 0.95
    context = {
        "type": [f"t{kind}" if tells else None for kind, tells in zip(kinds, told, strict=True)],
        "region": [None] * COUNT,
    }
    ts = batch.ts % 10**9 if calm else batch.ts
    return Batch.of(batch.vehicles.tolist(), ts, values, context, np.arange(COUNT, dtype=np.int64))


@pytest.mark.parametrize("calm", [True, False])
@pytest.mark.parametrize("features", ["wide", "evidence"])
def test_the_kernels_do_what_the_rules_say(calm: bool, features: str) -> None:
    """Statuses, features, thresholds, alarms, episodes and restarts are those of a second writing of the rules."""
    batch, fleet, frame, arm = troubled(3, calm), world.fleet(), world.frame(features=features), world.arm()
    events = [Event(f"e{n}", f"v{n % 4}", 400 + 1_300 * n - 900 * (n % 3)) for n in range(8)]
    told = Reference(fleet, frame, arm.model, events)
    told.run(batch)
    engine, twin = Engine(fleet, frame), Engine(fleet, frame)
    for each in (engine, twin):
        each.use([arm], lambda _vehicle: 0)
        each.add_events(events)
    outcome, observed = engine.decide(batch), twin.features(batch)
    assert observed.status.tolist() == told.statuses
    rows = np.flatnonzero(observed.status <= 1)
    np.testing.assert_allclose(observed.features[rows][:, : 3 * frame.blocks], told.features, atol=1e-3)
    assert [(row, event.id) for row, event, _ in zip(*outcome.applied, strict=True)] == told.applied
    agree(outcome, told)


def agree(outcome: Outcome, told: Reference) -> None:
    """Decisions and changes of episodes are the same; numbers to 1e-3."""
    decisions, episodes = outcome.decisions, outcome.episodes
    score, threshold, fault, refused = map(np.array, zip(*told.decided, strict=True))
    np.testing.assert_allclose(decisions.score, score, atol=1e-2)
    np.testing.assert_allclose(decisions.threshold, threshold, rtol=1e-4)
    assert decisions.alarm.tolist() == fault.tolist()
    assert ((decisions.kinds & 2) > 0).tolist() == refused.tolist()
    found = [column.tolist() for column in (episodes.row, episodes.kind, episodes.change, episodes.start)]
    found += [column.tolist() for column in (episodes.end, episodes.peak, episodes.alarms)]
    said = [
        (row, kind, change, start, end, peak, alarms) for row, kind, change, start, end, peak, _, alarms in told.changes
    ]
    assert list(zip(*found, strict=True)) == said
    np.testing.assert_allclose(episodes.level, [change[6] for change in told.changes], rtol=1e-3)
