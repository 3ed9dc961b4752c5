"""The rows of a table on a small fleet: what the product has to beat, and what each of its parts is worth."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.engine.events import Event
from tests.training.suites.wearing import case
from training.suites.baselines import at_budget, gaussian_adapting, gaussian_frozen, look, naive_adaptive, random
from training.suites.case import Case, train_and_test
from training.suites.rows import ALWAYS, PARTS, PRODUCT, lines
from training.suites.tally import Costs, figures_of, tally
from training.suites.verdict import measure, rows_of


@pytest.fixture(scope="module")
def judged() -> dict[str, dict[str, float]]:
    """The figures of every row at a budget of 1."""
    made = case()
    return {
        line.row: {
            name: float(value)
            for name, value in figures_of(tally(line.played.decided, made.fleet, Costs()).sum(axis=0), Costs()).items()
        }
        for line in lines(made, (1.0,))
        if line.played is not None
    }


def test_every_mandatory_row_is_there(judged: dict[str, dict[str, float]]) -> None:
    """Random, always alarm, the Gaussians, offline only, naive adaptive, the product, an ablation for each part."""
    told = {"random", "always alarm", "Gaussian, frozen", "Gaussian, adapting", "offline only", "naive adaptive"}
    parts = {"no regime", "no baseline", "no evidence", "no label term", "no adaptation"}
    parts |= {"no born-ill check", "no lasting shift"}
    assert set(judged) == {PRODUCT, *told, *parts}
    assert judged[ALWAYS]["detected"] == 1.0
    assert judged["random"]["lead"] < judged[PRODUCT]["lead"] / 4


def test_each_part_that_the_fleet_needs_is_missed(judged: dict[str, dict[str, float]]) -> None:
    """Vehicles differ, regimes differ, faults are slow: without baseline, regime or evidence the lead falls."""
    for part in ("no regime", "no baseline", "no evidence", "offline only"):
        assert judged[part]["lead"] < judged[PRODUCT]["lead"]


def test_what_keeps_learning_absorbs_what_is_slow() -> None:
    """Where wear takes 300 readings, the naive adaptive row has less than half of the product's lead."""
    slow = case(life=600, wear=3.0)
    played, trained = train_and_test(slow)
    both = look(slow, trained.frame)
    naive = at_budget(both, naive_adaptive(both), 1.0)
    ours, theirs = (
        float(figures_of(tally(one.decided, slow.fleet, Costs()).sum(axis=0), Costs())["lead"])
        for one in (played, naive)
    )
    assert theirs < ours / 2


@pytest.mark.parametrize("score", [random, gaussian_frozen, gaussian_adapting, naive_adaptive])
def test_a_threshold_is_chosen_without_the_test_vehicles(score: object) -> None:
    """Other readings of the test vehicles leave the alarms of those that stayed the same as they were."""
    made = case()
    frame = train_and_test(made)[1].frame
    half = made.split.test[:2]
    alone = made._replace(test=made.test.of(half))
    for one in (look(made, frame), look(alone, frame)):
        played = at_budget(one, score(one), 1.0)  # type: ignore[operator]
        own = np.isin(played.decided.codes, np.unique(alone.test.codes))
        alarms = played.decided.alarm[own]
        assert score is random or np.array_equal(alarms, _alarms(alone, frame, score))


def _alarms(alone: Case, frame: object, score: object) -> np.ndarray:
    both = look(alone, frame)  # type: ignore[arg-type]
    return at_budget(both, score(both), 1.0).decided.alarm  # type: ignore[operator]


def test_a_row_that_training_refuses_is_said_and_left_out() -> None:
    """A part without which no model comes out does not end the suite: the row is missing and its reason is there."""
    made = case()
    rows = [
        line._replace(played=None, refused="too steep") if line.row == "no regime" else line
        for line in lines(made, (1.0,))
    ]
    measured = measure(made, 0, rows, Costs())
    assert measured.refused == {"no regime": "too steep"}
    assert ("no regime", 1.0) not in measured.tallies


def test_the_transfer_gap_goes_from_the_budget_over_validation_to_the_test() -> None:
    """A row that chose a threshold says what became of the budget on both sides; `always alarm` chose none."""
    made = case()
    measured = measure(made, 0, list(lines(made, (5.0,), ())), Costs())
    rows = {row.row: row for row in rows_of([measured], Costs())}
    for name in (PRODUCT, "Gaussian, frozen"):
        assert rows[name].on_validation is not None
        assert rows[name].obtained == pytest.approx(rows[name].false_alarms.value / 5.0)
    assert (rows[ALWAYS].on_validation, rows[ALWAYS].obtained) == (None, None)


def test_what_a_row_shows_on_validation_is_of_validation_vehicles() -> None:
    """An alarm of a validation vehicle counts there, one of a training vehicle does not."""
    made = case()
    both = look(made, train_and_test(made)[1].frame)
    silent = np.zeros(len(both.test.ts))
    for part, false_alarms in ((made.split.train, False), (made.split.validation, True)):
        loud = np.zeros(len(both.past.ts))
        loud[np.flatnonzero(both.past.healthy & np.isin(both.past.codes, made.past.codes_of(part)))[0]] = 5.0
        assert (at_budget(both, (loud, silent), 5.0).validation > 0.0) == false_alarms


@pytest.mark.parametrize(
    ("name", "applies"),
    [("no events", True), ("no cohort check", False), ("no born-ill check", True), ("no lasting shift", True)],
)
def test_a_part_takes_out_one_thing_and_is_left_out_where_it_is_not_there(name: str, applies: bool) -> None:
    """With a service told, only `no events` forgets it; without a cohort there is no check on cohorts."""
    made = case()
    told = made._replace(test=made.test._replace(events=[Event("s", made.test.names[0], 50)]))
    part = next(part for part in PARTS if part.name == name)
    changed = part.change(told)
    assert (changed is not None) == applies
    if changed is not None:
        assert (changed.fleet == told.fleet) == (name == "no events")
        assert (changed.test.events == told.test.events) == (name != "no events")
        assert np.array_equal(changed.test.health, told.test.health)
    assert name != "no events" or part.change(made) is None
