"""A cohort that no field makes: the whole fleet."""

from __future__ import annotations

from anomaly.engine.cohorts import CohortTable


def test_without_fields_all_readings_are_of_one_cohort() -> None:
    """`cohort = []` is one cohort for everybody, from the first batch on."""
    table = CohortTable(2, 256)
    assert table.numbers([], 3).tolist() == [0, 0, 0]
    assert table.numbers([], 2).tolist() == [0, 0]
    assert len(table) == 1
