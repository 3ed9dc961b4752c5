"""The audit's estimate of recall holds where the naive one does not."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.feedback.audit import Faults, estimate
from benchmarks.audit import Size, coverage


def faults(detected: int, missed: list[tuple[int, int]]) -> Faults:
    """Faults of 20 days that were found, and others as (days, days that the audit drew)."""
    days = [20] * detected + [one[0] for one in missed]
    met = [0] * detected + [one[1] for one in missed]
    return Faults(np.arange(len(days)) < detected, np.array(days, np.int64), np.array(met, np.int64))


def test_a_missed_fault_counts_by_the_chance_to_be_met() -> None:
    """One of 1 day at 10 % stands for 10; one that was drawn on two of its days is still one fault."""
    found = estimate(faults(30, [(1, 1), (1, 0)]), 0.1)
    assert found.false_negatives.value == pytest.approx(10)
    assert found.recall.value == pytest.approx(30 / 40)
    twice = estimate(faults(30, [(2, 2)]), 0.1)
    assert twice.false_negatives.value == pytest.approx(1 / 0.19)


def test_faults_that_the_audit_did_not_meet_do_not_count() -> None:
    """Who breaks down on the road is known for another reason, with an unknown chance."""
    assert estimate(faults(5, [(3, 0)] * 4), 0.1).met == 0


def test_nothing_met_is_not_nothing_missed() -> None:
    """The interval reaches below a recall of one; without any fault nothing is said."""
    none_met = estimate(faults(20, []), 0.01)
    assert (none_met.recall.value, none_met.recall.high) == (1.0, 1.0)
    assert none_met.recall.low is not None
    assert none_met.recall.low < 0.7
    assert estimate(faults(0, []), 0.01).recall.value is None


def test_without_an_audit_nothing_is_known_of_what_was_missed() -> None:
    """A share of 0 leaves recall open to below."""
    found = estimate(faults(20, []), 0.0)
    assert found.false_negatives.high is None
    assert found.recall.low == 0.0


def test_the_interval_covers_the_truth_and_the_naive_one_does_not() -> None:
    """In 40 simulated runs: at least 36, and fewer than 8; `python -m benchmarks audit` takes 100 of the full size."""
    found = coverage(Size(vehicles=2_500), 40)
    assert found.audit >= 36
    assert found.naive < 8
    assert found.width <= 0.4
