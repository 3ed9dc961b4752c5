"""A retraining learns from what was known at its cutoff, holds out the newest part and caps each vehicle's weight."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.feedback.history import FAULT, HEALTHY
from anomaly.telemetry.records import Label
from tests.training.aging import DAY, fleet, labels, readings
from training.history import History, known_at
from training.loop.windows import Spans, Windows, capped, windows

SPANS = Spans(window_days=50.0, holdout_days=20.0)


def at(day: float, told: list[Label] | None = None) -> Windows:
    """The windows of a cutoff."""
    return windows(fleet(), readings(), ([], labels() if told is None else told), int(day * DAY), SPANS)


def test_the_newest_part_is_held_out() -> None:
    """Training ends where the newest part begins, and begins a window before it."""
    found = at(100)
    assert found.since == 80 * DAY
    assert found.training.batch.ts.max() < found.since
    assert found.training.batch.ts.min() >= 30 * DAY
    assert found.newest.batch.ts.max() == 100 * DAY


def test_of_the_newest_only_what_was_held_out_counts() -> None:
    """Before the newest part no reading is healthy and no fault is one to be found."""
    found = at(100)
    assert (found.newest.health[found.newest.batch.ts < found.since] != HEALTHY).all()
    assert all(fault.start >= found.since for fault in found.newest.faults)


def test_confirmed_faults_are_no_health() -> None:
    """Readings of a fault that was reported by the cutoff are faults to the fit, and it is among the known ones."""
    found = at(80).training
    assert (found.health == FAULT).any()
    assert [found.names[fault.code] for fault in found.faults] == ["v00", "v04"]


@settings(max_examples=25, deadline=None)
@given(
    day=st.integers(0, 200),
    late=st.floats(0.0, 100.0),
    verdict=st.sampled_from(["fault", "no_fault", "fixed", "normal_since", "unknown"]),
    number=st.integers(0, 19),
)
def test_labels_reported_after_the_cutoff_change_nothing(day: int, late: float, verdict: str, number: int) -> None:
    """Whatever is reported later, shuffled in, leaves the windows as they were."""
    cutoff = 90 * DAY
    later = msgspec.convert(
        {"vehicle": f"v{number:02d}", "from": day * DAY, "to": day * DAY + 5, "verdict": verdict, "source": "late",
         "reported_at": cutoff + 1 + int(late * DAY)}, Label)  # fmt: skip
    assert same(at(90, [later, *labels()]), at(90))


def test_a_label_reported_at_the_cutoff_does_change_something() -> None:
    """The control: the same label, told in time, is seen."""
    told = Label(vehicle="v01", start=60 * DAY, end=65 * DAY, verdict="fault", source="late", reported_at=90 * DAY)
    assert not same(at(90, [told, *labels()]), at(90))


def same(one: Windows, other: Windows) -> bool:
    """Whether two windows hold the same readings, health, faults and events."""
    pairs = [(one.training, other.training), (one.newest, other.newest)]
    return all(
        np.array_equal(a.batch.values, b.batch.values, equal_nan=True)
        and np.array_equal(a.health, b.health)
        and (a.faults, a.events) == (b.faults, b.events)
        for a, b in pairs
    )


def test_a_vehicle_that_sends_more_weighs_no_more_than_its_cap() -> None:
    """Of a vehicle with many readings the newest are kept, up to the cap; the others keep all."""
    history = known_at(fleet(), readings(), [], [], 119 * DAY)
    few = np.flatnonzero((history.codes == 0) | (history.batch.ts % (4 * DAY) == 0))
    part = History(
        history.batch.take(few), history.names, history.codes[few], history.health[few], [], [], []
    )  # fmt: skip
    counts = np.bincount(capped(part, 2.0).codes)
    assert counts[0] == 2 * counts[1]
    assert set(counts[1:].tolist()) == {int(counts[1])}
    assert capped(part, 2.0).batch.ts[-1] == part.batch.ts[-1]
