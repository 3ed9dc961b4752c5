"""Outcomes: what became of alerts and faults, by what was known at a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.feedback.decisions import schema
from anomaly.feedback.history import Past
from anomaly.feedback.outcomes import Moment, Outcomes, Told, outcomes, vehicle_table, write_outcomes
from anomaly.fleet import Fleet
from anomaly.telemetry.records import Label
from tests.engine.world import FLEET, fleet

DAYS = FLEET.replace("burn_in = 6", "burn_in = 6\n[history]\ndetected_before = 5")
LATE = Moment(cutoff=1_000, label_delay=50)


def known() -> Fleet:
    """The test fleet; a reading a second."""
    return fleet(DAYS)


def log(alarms: dict[str, list[int]], vehicle: str = "v") -> Any:
    """A decision log with these alarm rows by episode."""
    rows = [
        {"vehicle": vehicle, "ts": ts, "episode": episode, "alarm": True, "kind": "fault", "level": 1.5}
        | {"model": "test/1", "arm": "champion"}
        for episode, times in alarms.items()
        for ts in times
    ]
    quiet = [{"vehicle": vehicle, "ts": 3, "alarm": False, "kind": "", "level": 0.1}]
    return pa.Table.from_pylist(rows + quiet, schema=schema())


def label(verdict: str, start: int, end: int, reported_at: int | None = None, alert: str | None = None) -> Label:
    """What the workshop said of vehicle v."""
    return Label(vehicle="v", start=start, end=end, verdict=verdict, source="s", reported_at=reported_at, alert=alert)


def found(alarms: dict[str, list[int]], labels: list[Label], moment: Moment = LATE) -> Outcomes:
    """Outcomes of vehicle v, which sent a reading at 0, 1, ... 499."""
    past = Past(["v"], np.zeros(500, np.int64), np.arange(500))
    return outcomes(log(alarms), Told(past, labels, []), known(), moment)


def states(outcome: Outcomes) -> dict[str, str]:
    """The state of each episode."""
    return {row["episode"]: row["state"] for row in outcome.episodes.to_pylist()}


@pytest.mark.parametrize(
    ("alarms", "state"),
    [([460, 461], "confirmed"), ([300], "confirmed"), ([200, 249], "false_alarm"), ([500], "unlabelled")],
)
def test_an_alarm_in_or_before_the_fault_is_confirmed_and_in_the_healthy_part_false(
    alarms: list[int], state: str
) -> None:
    """With a fault from 450 to 499, readings below 250 are healthy and those up to 450 unknown."""
    assert states(found({"e": alarms}, [label("fault", 450, 499)])) == {"e": state}


@pytest.mark.parametrize(
    ("labels", "cutoff", "state"),
    [
        ([], 130, "immature"),
        ([], 150, "unlabelled"),
        ([label("no_fault", 90, 110)], 150, "false_alarm"),
        ([label("no_fault", 90, 110, reported_at=200)], 150, "unlabelled"),
        ([label("unknown", 90, 110)], 900, "immature"),
        ([label("no_fault", 400, 410, alert="e")], 900, "false_alarm"),
        ([label("fixed", 400, 410, alert="e")], 900, "confirmed"),
        ([label("normal_since", 90, 300)], 900, "false_alarm"),
    ],
)
def test_answers_decide_and_silence_is_not_an_answer(labels: list[Label], cutoff: int, state: str) -> None:
    """An alert that ended at 100: immature for 50 ticks, then as the labels say that were reported."""
    assert states(found({"e": [95, 100]}, labels, Moment(cutoff, 50))) == {"e": state}


@pytest.mark.parametrize(
    ("alarms", "state", "lead"),
    [
        ({"e": [470]}, "confirmed", 29),
        ({"a": [300], "b": [470]}, "confirmed", 199),
        ({"a": [100], "b": [470]}, "confirmed", 29),
        ({"e": [494]}, "confirmed", 5),
        ({"e": [495]}, "missed", 0),
        ({"e": [300]}, "missed", 0),
        ({}, "missed", 0),
        ({"e": [400, 430, 496]}, "confirmed", 99),
    ],
)
def test_a_fault_is_detected_inside_and_in_time_and_led_from_the_first_alarm(
    alarms: dict[str, list[int]], state: str, lead: int
) -> None:
    """At least 5 readings before 499; the lead from the first alarm after the healthy part, 0 if missed."""
    (fault,) = found(alarms, [label("fault", 450, 499)]).faults.to_pylist()
    assert (fault["state"], fault["lead"]) == (state, lead)


@given(
    alarms=st.lists(st.integers(0, 499), max_size=8),
    later=st.lists(st.tuples(st.sampled_from(["fault", "no_fault", "unknown"]), st.integers(0, 490)), max_size=5),
    cutoff=st.integers(0, 499),
)
def test_what_comes_after_the_cutoff_changes_nothing(
    alarms: list[int], later: list[tuple[str, int]], cutoff: int
) -> None:
    """Labels reported and alarms raised later leave the outcomes of a moment as they were."""
    before = {f"e{ts}": [ts] for ts in alarms if ts <= cutoff}
    after = {f"e{ts}": [ts] for ts in alarms if ts > cutoff}
    labels = [label("fault", 100, 120, reported_at=50)]
    hidden = [label(verdict, start, start + 9, cutoff + 1) for verdict, start in later]
    moment = Moment(cutoff, 50)
    whole = found(before | after, hidden + labels, moment)
    plain = found(before, labels, moment)
    assert whole.episodes.to_pylist() == plain.episodes.to_pylist()
    assert whole.faults.to_pylist() == plain.faults.to_pylist()


def test_an_episode_is_told_whole() -> None:
    """First and last alarm, their number, the highest level and who scored it."""
    (row,) = found({"e": [10, 30, 20]}, []).episodes.to_pylist()
    assert row == {
        "vehicle": "v", "episode": "e", "kind": "fault", "start": 10, "end": 30, "level": 1.5, "count": 3,
        "model": "test/1", "arm": "champion", "state": "unlabelled",
    }  # fmt: skip


def test_outcomes_are_written_as_files(tmp_path: Path) -> None:
    """Both tables are there, and the next ones replace them."""
    write_outcomes(found({"e": [10]}, []), tmp_path)
    write_outcomes(found({"e": [10], "f": [90]}, [label("fault", 450, 499)]), tmp_path)
    assert pq.read_table(tmp_path / "episodes.parquet").num_rows == 2
    assert pq.read_table(tmp_path / "faults.parquet")["state"].to_pylist() == ["missed"]


def test_a_vehicle_is_one_row_with_its_days_and_counts() -> None:
    """Each vehicle from its own start; what needs labels only as far as they were due; others left out."""
    day = 86_400
    past = Past(["w", "v", "x"], np.array([0, 1, 1, 1, 1, 2]), np.array([0, 1, 2, day, 9 * day, 1]))
    alarms = log({"early": [0], "mature": [5], "open": [9 * day]})
    told = Told(past, [label("fault", day, day + 5), label("no_fault", 5, 6)], [])
    moment = Moment(cutoff=10 * day, label_delay=2 * day)
    outcome = outcomes(alarms, told, known(), moment)
    rows = vehicle_table(outcome, past, known(), {"v": 1, "w": day}, moment).to_pylist()
    assert rows == [
        {"vehicle": "v", "days": 3, "mature_days": 2, "alerts": 2, "false_alarms": 0, "faults": 1}
        | {"detected": 0, "lead_days": 0}
    ]
    rows = vehicle_table(outcome, past, known(), {"v": 0, "w": 0}, moment).to_pylist()
    assert [(row["vehicle"], row["days"], row["alerts"]) for row in rows] == [("v", 3, 3), ("w", 1, 0)]


def test_an_alert_that_nobody_confirmed_counts_as_false_when_labels_were_due() -> None:
    """Before that it is no false alarm, and its day is not divided by."""
    past = Past(["v"], np.zeros(200, np.int64), np.arange(200))
    for delay, expected in ((50, (1, 1)), (150, (0, 1)), (250, (0, 0))):
        moment = Moment(cutoff=199, label_delay=delay)
        outcome = outcomes(log({"e": [100]}), Told(past, [], []), known(), moment)
        (row,) = vehicle_table(outcome, past, known(), {"v": 0}, moment).to_pylist()
        assert (row["false_alarms"], row["mature_days"]) == expected
        assert (row["alerts"], row["days"]) == (1, 1)


def test_an_answer_that_came_early_does_not_count_before_its_day_does() -> None:
    """A false alarm is counted over the same days that it is divided by."""
    past = Past(["v"], np.zeros(200, np.int64), np.arange(200))
    moment = Moment(cutoff=199, label_delay=150)
    told = Told(past, [label("no_fault", 90, 110)], [])
    outcome = outcomes(log({"e": [100]}), told, known(), moment)
    assert states(outcome) == {"e": "false_alarm"}
    (row,) = vehicle_table(outcome, past, known(), {"v": 0}, moment).to_pylist()
    assert row["false_alarms"] == 0
