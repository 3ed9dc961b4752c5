"""One alert about a cohort that moved while the others did not, the same for every way of cutting the stream."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from anomaly.alerts.book import AlertBook
from anomaly.engine.cohorts import Merged
from anomaly.engine.model import Arm, Checks
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Alert
from tests.engine import world

COHORTS, EACH, STEPS = 6, 12, 130


def arm(on: bool = True) -> Arm:
    """An arm whose model compares cohorts."""
    checks = Checks(cohort=4.0, cohort_spread=(0.1, 0.1, 0.1)) if on else Checks()
    return world.arm(k=1e6)._replace(model=world.arm(k=1e6).model._replace(checks=checks))


def lives(moving: range, seed: int = 0) -> Batch:
    """Six cohorts of 12 vehicles, six readings a period; signal `a` of some cohorts rises, and falls back."""
    rng = np.random.default_rng(seed)
    count = COHORTS * EACH * STEPS
    who, step = np.arange(count) % (COHORTS * EACH), np.arange(count) // (COHORTS * EACH)
    values = np.tile([0.0, 10.0, -5.0, 0.0], (count, 1)) + rng.normal(0, 0.3, (count, 4)) * [1, 2, 1, 0]
    moves = np.isin(who % COHORTS, list(moving)) & (step < 90)
    values[:, 0] += np.where(moves, np.clip(step - 40, 0, 40) * 0.08, 0.0)
    context = {"type": [f"t/{n % COHORTS}" for n in who], "region": [None] * count}
    return Batch.of([f"v{n}" for n in who], 10 * step, values.astype(np.float32), context, np.arange(count))


def told(batch: Batch, edges: list[int], on: bool = True) -> list[Alert]:
    """The alerts of a stream in parts, the book written down and taken up again between them."""
    engine, stored, alerts = world.engine(arm(on)), dict[str, bytes](), []
    for start, stop in itertools.pairwise([0, *edges, len(batch)]):
        book, part = AlertBook(), batch.rows(start, stop)
        book.restore(stored.items())
        alerts += book.apply(engine.decide(part), part, world.fleet(), [arm(on)])
        for key, value in book.changed():
            stored.pop(key, None)
            stored |= {key: value} if value is not None else {}
    return [alert for alert in alerts if alert.kind == "cohort"]


def test_a_defect_of_one_cohort_of_six_is_one_alert_that_names_it() -> None:
    """It opens, grows, and closes once the cohort is like the others again; its signal is the one that moved."""
    alerts = told(lives(range(2, 3)), [])
    assert {alert.id for alert in alerts} == {alerts[0].id}
    assert [alerts[0].state, alerts[-1].state] == ["open", "closed"]
    assert alerts[0].subject == {"cohort": "t%2F2"}
    assert 400 <= alerts[0].start < alerts[0].peak + 60 <= alerts[-1].end + 61
    assert alerts[-1].signals[0].name == "a"
    assert alerts[-1].signals[0].share > 0.9
    assert "cohort t%2F2: moved, and the other cohorts did not: a" in alerts[-1].text
    assert f"{alerts[-1].count} periods, highest level" in alerts[-1].text
    severities = [alert.severity for alert in alerts[:-1]]
    assert severities == sorted(set(severities))


def test_a_season_of_all_cohorts_is_no_alert() -> None:
    """The same move of all six cohorts is none; neither is that of one where the model has no such check."""
    assert told(lives(range(6)), []) == []
    assert told(lives(range(2, 3)), [], on=False) == []


@pytest.mark.parametrize("seed", range(3))
def test_the_cut_into_batches_and_a_restart_change_nothing(seed: int) -> None:
    """Whole, cut anywhere, and with the book stored between: the same bytes in the same order."""
    batch = lives(range(1, 2), seed)
    edges = sorted(np.random.default_rng(seed).integers(1, len(batch), 12).tolist())
    whole = told(batch, [])
    assert len(whole) > 2
    assert msgspec.json.encode(told(batch, edges)) == msgspec.json.encode(whole)


def period(number: int, *levels: float) -> Merged:
    """Cohorts with signal `a` so far away; NaN: too little is known."""
    medians = np.zeros((len(levels), 3), np.float32)
    medians[:, 0] = levels
    medians[np.isnan(levels)] = np.nan
    return Merged(number, [f"t{n}" for n in range(len(levels))], medians, ticks=60)


def test_a_cohort_of_which_too_little_is_known_stays_as_it_was() -> None:
    """No close and no second alert while its vehicles are away; a period below the line closes it."""
    book = AlertBook()
    steps = [(2.0, 0, 0), (np.nan, 0, 0), (2.0, 0, 0), (0.0, 0, 0)]
    found = [book.compare(period(5 + n, 0, *step), world.fleet(), arm()) for n, step in enumerate(steps)]
    assert [[alert.state for alert in each] for each in found] == [["open"], [], [], ["closed"]]
    (closed,) = found[3]
    assert (closed.start, closed.end, closed.count) == (300, 479, 2)


def test_another_partition_tells() -> None:
    """What is quiet is kept, so that this partition can go on telling, and is not written."""
    batch, engine, book = lives(range(2, 3)), world.engine(arm()), AlertBook()
    part = batch.rows(0, 85 * COHORTS * EACH)
    outcome = engine.decide(part)
    quiet = {merged.period for merged in outcome.merged}
    assert book.apply(outcome, part, world.fleet(), [arm()], quiet) == []
    assert [alert.kind for alert in book.open()] == ["cohort"]
