"""The threshold of the check on cohorts, what its alerts count for, and two fleets that it must tell apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.cohorts import Merged
from anomaly.engine.model import Model
from anomaly.feedback.history import FAULT, HEALTHY
from anomaly.simulator import scenario
from anomaly.telemetry.batch import Batch
from tests.training.test_figures import FLEET, one_life
from training.backtest import backtest
from training.cohort_check import LEAST, cohort_checks
from training.figures import CohortAlarm, Fault, costs_by_vehicle, headline
from training.fit import fit
from training.history import History
from training.suites.simulated import divided, simulated_past
from training.suites.tally import Costs, tally

COSTS = Costs()


def periods(scale: float, count: int = 60, cohorts: int = 4, seed: int = 0) -> list[Merged]:
    """Medians of cohorts that wander by `scale`; a period has 10 ticks."""
    rng = np.random.default_rng(seed)
    keys = [f"t{n}" for n in range(cohorts)]
    return [Merged(p, keys, rng.normal(0, scale, (cohorts, 2)).astype(np.float32), ticks=10) for p in range(count)]


def past(faults: list[Fault], cohorts: int = 4) -> History:
    """Two vehicles a cohort, one reading each."""
    names = [f"v{n}" for n in range(2 * cohorts)]
    rows = np.arange(len(names))
    context = {"type": [f"t{n % cohorts}" for n in rows]}
    batch = Batch.of(names, rows, np.zeros((len(rows), 2), np.float32), context, rows)
    return History(batch, names, rows, np.full(len(rows), HEALTHY, np.int8), faults, [], [])


def test_with_two_cohorts_the_check_is_off() -> None:
    """It takes three cohorts with data to say which one moved."""
    for merged in ([], periods(0.1, cohorts=2)):
        assert cohort_checks(past([]), ("type",), merged, 1.0)[0].cohort == math.inf
    assert cohort_checks(past([]), ("type",), periods(0.1), 1.0)[0].cohort < math.inf


def test_the_budget_is_kept_on_the_history() -> None:
    """More allowed episodes mean a lower threshold; less than one lies beyond all that was seen; none below LEAST."""
    merged = periods(0.1)
    merged[30].medians[1] = 5.0
    few, many = (cohort_checks(past([]), ("type",), merged, allowed)[0] for allowed in (0.1, 2.0))
    assert few.cohort > many.cohort >= LEAST
    assert few.cohort > 20
    assert cohort_checks(past([]), ("type",), periods(0.01), 50.0)[0].cohort == LEAST


def test_a_cohort_with_a_fault_does_not_lift_the_threshold() -> None:
    """Periods in which more than a quarter of a cohort's vehicles are ill are no healthy ones."""
    merged = periods(0.1)
    for period in merged[30:40]:
        period.medians[1] = 5.0
    ill = [Fault(1, 300, 399)]
    lifted, kept = (cohort_checks(past(faults), ("type",), merged, 0.5)[0].cohort for faults in ([], ill))
    assert kept < lifted / 3


def alarm(false: bool, start: int = 20, opened: int = 25, end: int | None = None) -> CohortAlarm:
    """An alert about a cohort of two vehicles."""
    return CohortAlarm(np.array([0, 1]), start, opened, end, false)


def test_a_false_alert_of_a_cohort_is_one_episode() -> None:
    """Not one a vehicle, and not more in the tally by vehicle; beside the vehicles' own."""
    one = one_life(6)
    both = one.take(np.tile(np.arange(40), 2))._replace(codes=np.repeat([0, 1], 40), cohorts=[alarm(True)], faults=[])
    assert headline(both, FLEET).false_alarm_episodes == 3
    assert headline(both._replace(cohorts=[]), FLEET).false_alarm_episodes == 2
    assert tally(both, FLEET, COSTS)[:, 2].tolist() == [2.0, 1.0]
    assert costs_by_vehicle(both, FLEET).tolist() == [20.0, 10.0]


def test_a_fault_of_an_alarmed_cohort_is_found() -> None:
    """Without an alarm of its own the lead is from the alert's start; an alert that opens too late finds nothing."""
    found = headline(one_life()._replace(cohorts=[alarm(False)]), FLEET)
    assert (found.detected, found.lead, found.lead_running, found.false_alarm_episodes) == (1.0, 19.0, 19.0, 0)
    assert headline(one_life()._replace(cohorts=[alarm(False, opened=38)]), FLEET).detected == 0.0
    assert headline(one_life()._replace(cohorts=[alarm(False, end=29)]), FLEET).detected == 0.0
    assert FAULT in one_life().health


@pytest.mark.parametrize(("story", "cohorts"), [("H", {"hatchback/north"}), ("D", set())])
def test_a_defect_is_told_from_a_season(story: str, cohorts: set[str]) -> None:
    """A defect of one cohort is found and named; a winter and new firmware that no history had alarm no cohort."""
    config = scenario(story, vehicles=160)
    case = divided(simulated_past(config, 1), config, 1)
    trained = fit(case.fleet, case.past, case.split, case.seed)
    detector = OnnxDetector(trained.onnx, trained.frame.signals)
    model = Model("fleet/1", "d", detector, trained.k, trained.q_fleet, trained.policy, trained.checks)
    result = backtest(case.fleet, trained.frame, model, case.test)
    assert {alert.subject["cohort"] for alert in result.cohorts} == cohorts
    assert not any(alarm.false for alarm in result.decided.cohorts)
