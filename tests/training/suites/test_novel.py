"""Faults that no label has named: who is told what, and what is claimed."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.feedback.history import HEALTHY
from training.suites.novel import ALL_LABELS, ALONE, GRADUAL, claims, fleet_config, novel_split, only
from training.suites.own import Past
from training.suites.rows import PRODUCT
from training.suites.simulated import divided, simulated_past
from training.suites.tally import COLUMNS, Costs
from training.suites.verdict import Measured

KIND = "battery_fade"
CONFIG = fleet_config(KIND, 60)


@pytest.fixture(scope="module")
def past() -> Past:
    """A small fleet with faults of all kinds in its history."""
    return simulated_past(CONFIG, 3)


def test_the_history_names_one_kind_and_is_healthy_where_it_was(past: Past) -> None:
    """Labels of other kinds say `unknown`; what is fitted on as healthy is the same, reading for reading."""
    told, lessened = (divided(one, CONFIG, 3) for one in (past, only(past, KIND, CONFIG.train_until_ms)))
    named = {(label.vehicle, label.end) for label in past.labels if label.code == KIND}
    faults = {(lessened.past.names[fault.code], fault.end) for fault in lessened.past.faults}
    assert faults
    assert faults < {(told.past.names[fault.code], fault.end) for fault in told.past.faults}
    assert faults <= named
    assert np.array_equal(lessened.past.health == HEALTHY, told.past.health == HEALTHY)


def test_the_future_has_the_other_gradual_kinds_with_their_labels(past: Past) -> None:
    """No fault to find is of the kind that was named, and the same are to be found with all labels."""
    told, lessened = (divided(one, CONFIG, 3) for one in (past, only(past, KIND, CONFIG.train_until_ms)))
    later = {label.code for label in past.labels if label.end >= CONFIG.train_until_ms}
    assert later <= set(GRADUAL) - {KIND}
    assert lessened.test.faults == told.test.faults


def row(found: int, lead: float) -> list[list[float]]:
    """Ten vehicles with a fault each, of which the first so many were found, with the same lead each."""
    table = np.zeros((10, len(COLUMNS)))
    table[:, [COLUMNS.index("faults"), COLUMNS.index("days"), COLUMNS.index("readings")]] = 1.0
    table[:found, COLUMNS.index("detected")] = 1.0
    table[:found, [COLUMNS.index("lead"), COLUMNS.index("running")]] = lead
    return table.tolist()


@pytest.mark.parametrize(
    ("found", "lead", "alone", "met"),
    [
        (10, 9.5, 9, [True, True, True, True]),
        (9, 10.0, 8, [False, True, True, True]),
        (10, 8.9, 9, [True, False, False, True]),
        (10, 10.0, 10, [True, True, True, False]),
    ],
)
def test_each_claim_fails_by_itself(found: int, lead: float, alone: int, met: list[bool]) -> None:
    """Too few found again, too little lead left, and a label term that is as good alone."""
    tallies = {(PRODUCT, 1.0): row(found, lead), (ALL_LABELS, 1.0): row(10, 10.0), (ALONE, 1.0): row(alone, 1.0)}
    measured = Measured(split=0, tallies=tallies, rankings={}, slices={}, timelines=[])
    assert [claim.met for claim in claims([measured], Costs())] == met


def test_one_split_has_the_mandatory_rows_and_both_that_the_claims_are_about() -> None:
    """The product, the same with all labels, the label term alone, and what every table has."""
    measured = novel_split(KIND, Costs(), 60)
    told = {"random", "always alarm", "Gaussian, frozen", "Gaussian, adapting", "naive adaptive", "no label term"}
    assert {PRODUCT, ALL_LABELS, ALONE, *told} <= {row for row, _ in measured.tallies}
    assert not any(
        name == f"fault: {KIND}" and parts[COLUMNS.index("faults")] for name, parts in measured.slices.items()
    )
