"""The one function that says what of a history is healthy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from anomaly.engine.events import Event
from anomaly.feedback.history import FAULT, HEALTHY, UNKNOWN, Past, health, stretches
from anomaly.fleet import History
from anomaly.telemetry.records import Label


def fault(vehicle: str, start: int, end: int, verdict: str = "fault", reported_at: int | None = None) -> Label:
    """A label from the workshop."""
    return Label(vehicle=vehicle, start=start, end=end, verdict=verdict, source="workshop", reported_at=reported_at)


def of_one(count: int, labels: list[Label], restarts: tuple[Event, ...] = (), **settings: object) -> NDArray[np.int8]:
    """The health of one vehicle with readings at 0, 1, 2, ..."""
    return health(one_vehicle(np.arange(count)), labels, restarts, History(**settings))


def one_vehicle(ts: NDArray[np.int64]) -> Past:
    """Readings of `v` alone."""
    return Past(["v"], np.zeros(len(ts), np.int64), ts)


def runs(values: NDArray[np.int8]) -> list[tuple[int, int]]:
    """(value, length) of each run."""
    edges = np.flatnonzero(np.diff(values)) + 1
    return [(int(part[0]), len(part)) for part in np.split(values, edges)]


@given(count=st.integers(1, 400))
def test_run_to_failure_is_healthy_in_the_first_half_of_its_readings(count: int) -> None:
    """Readings t < n // 2 are healthy, the last 30 (never healthy) the fault."""
    found = of_one(count, [], run_to_failure=True)
    t = np.arange(count)
    expected = np.where(t < count // 2, HEALTHY, UNKNOWN)
    expected[max(0, count - 30) :] = FAULT
    assert found.tolist() == expected.tolist()


@given(count=st.integers(31, 400))
def test_a_label_of_the_last_30_cycles_splits_as_run_to_failure_does(count: int) -> None:
    """A label file that marks only the end of a life gives the same split as `run_to_failure`."""
    labelled = of_one(count, [fault("v", count - 30, count - 1)])
    assert labelled.tolist() == of_one(count, [], run_to_failure=True).tolist()


@given(seed=st.integers(0, 1_000))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    """Shuffled rows of several vehicles get the same answer each."""
    rng = np.random.default_rng(seed)
    codes, ts = np.repeat(np.arange(3), 40), np.tile(np.arange(40), 3)
    labels = [fault("b", 20, 30), fault("a", 5, 6, "unknown"), fault("b", 35, 36)]
    restarts = [Event("e", "b", 4)]
    plain = health(Past(["a", "b", "c"], codes, ts), labels, restarts, History())
    order = rng.permutation(120)
    shuffled = health(Past(["a", "b", "c"], codes[order], ts[order]), labels, restarts, History())
    assert shuffled.tolist() == plain[order].tolist()


def test_healthy_share_never_goes_beyond_the_start_of_the_fault() -> None:
    """A fault that covers most of the stretch leaves as healthy only what is before it."""
    assert runs(of_one(100, [fault("v", 10, 99)])) == [(HEALTHY, 10), (FAULT, 90)]


def test_a_restart_begins_the_stretch() -> None:
    """After a service at 60 the share is taken of the readings from there to the fault's end."""
    found = of_one(100, [fault("v", 90, 99)], (Event("s", "v", 60), Event("later", "v", 95)))
    assert runs(found) == [(HEALTHY, 80), (UNKNOWN, 10), (FAULT, 10)]


def test_each_fault_has_a_stretch_of_its_own() -> None:
    """After a fault's end a new stretch begins; what follows the last fault is healthy."""
    found = of_one(120, [fault("v", 40, 49), fault("v", 90, 99)])
    expected = [
        (HEALTHY, 25),
        (UNKNOWN, 15),
        (FAULT, 10),
        (HEALTHY, 25),
        (UNKNOWN, 15),
        (FAULT, 10),
        (HEALTHY, 20),
    ]
    assert runs(found) == expected


def test_overlapping_faults_are_one() -> None:
    """Two sources that report the same fault with other edges do not make two stretches."""
    found = of_one(100, [fault("v", 80, 90), fault("v", 85, 99)])
    assert runs(found) == [(HEALTHY, 50), (UNKNOWN, 30), (FAULT, 20)]


def test_a_vehicle_without_fault_is_healthy_outside_unknown_labels() -> None:
    """`unknown` hides its window, `no_fault` changes nothing, and labels of others neither."""
    labels = [fault("v", 10, 19, "unknown"), fault("v", 40, 49, "no_fault"), fault("w", 0, 99)]
    assert runs(of_one(100, labels)) == [(HEALTHY, 10), (UNKNOWN, 10), (HEALTHY, 80)]


def test_a_correction_takes_a_fault_back() -> None:
    """The later report about the same window and source holds."""
    labels = [fault("v", 80, 99, reported_at=100), fault("v", 80, 99, "no_fault", reported_at=200)]
    assert (of_one(100, labels) == HEALTHY).all()


@pytest.mark.parametrize(("share", "healthy"), [(0.0, 0), (0.29, 29), (0.5, 50), (1.0, 70)])
def test_healthy_share_counts_readings(share: float, healthy: int) -> None:
    """The share is of the stretch's readings, rounded down."""
    assert (of_one(100, [fault("v", 70, 99)], healthy_share=share) == HEALTHY).sum() == healthy


def test_stretches_say_the_same_as_times() -> None:
    """The stretch's times are those at which `health` changes."""
    stretch = stretches(one_vehicle(np.arange(100) * 10), [fault("v", 800, 990)], [Event("s", "v", 200)], History())
    assert [tuple(one) for one in stretch] == [("v", 200, 600, 800, 990, 940)]


def test_a_fault_without_readings_is_still_a_stretch() -> None:
    """A fault of a vehicle that was silent then is not lost, and claims no reading."""
    past = one_vehicle(np.array([1, 2, 3]))
    labels = [fault("v", 50, 60)]
    assert (health(past, labels, [], History()) == [HEALTHY, UNKNOWN, UNKNOWN]).all()
    assert stretches(past, labels, [], History())[0][3:] == (50, 60, 49)
