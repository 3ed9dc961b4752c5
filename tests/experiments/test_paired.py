"""A shadow against what acts: pairs err as seldom as they say, and need fewer vehicles than arms."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from anomaly.experiments.beside import Sums, beside
from anomaly.experiments.compare import Comparison, Vehicles, compare
from anomaly.experiments.confidence_sequence import OPTIMUM, critical_z
from anomaly.experiments.file import Experiment
from anomaly.experiments.paired import compare_pairs
from tests.experiments.plan import changed, experiment, rows

COUNT = 400


def shadowed(method: str = "sequence", metric: str = "false_alarms", **fields: object) -> Experiment:
    """An experiment whose treatment is a shadow."""
    plan = changed(guardrails=[], **fields)
    control, treatment = plan.arms
    primary = msgspec.structs.replace(plan.primary, metric=metric, method=method)
    return msgspec.structs.replace(
        plan, arms=[control, msgspec.structs.replace(treatment, mode="shadow")], primary=primary
    )


def side(false_alarms: np.ndarray, faults: np.ndarray, found: np.ndarray) -> Vehicles:
    """All vehicles in the shadow's arm, by one model."""
    return rows(np.ones(len(false_alarms), int), false_alarms, faults, found)


def pairs(seed: int, apart: tuple[float, float], shared: float = 0.6, count: int = COUNT) -> tuple[Vehicles, Vehicles]:
    """Vehicles of very different rates: most false alarms are of both models, `apart` those of either one alone."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.5, 2.0, count)
    both = rng.poisson(shared * rate)
    none = np.zeros(count, bool)
    acting, shadow = (side((both + rng.poisson(alone * rate)).astype(float), none, none) for alone in apart)
    return acting, shadow


def sums(seed: int, apart: tuple[float, float], looks: int) -> list[tuple[Vehicles, Vehicles]]:
    """What had come together at each of some looks."""
    parts = [pairs(1_000 * seed + look, apart, 0.3) for look in range(looks)]
    totals: list[list[np.ndarray]] = [np.cumsum([p[s].sums["false_alarms"] for p in parts], axis=0) for s in (0, 1)]
    none = np.zeros(COUNT, bool)
    return [(side(totals[0][n], none, none), side(totals[1][n], none, none)) for n in range(looks)]


def primary(plan: Experiment, both: tuple[Vehicles, Vehicles]) -> Comparison:
    """The comparison of one look."""
    return compare_pairs(plan, both[0], both[1], None)


def test_equal_models_are_told_apart_as_seldom_as_promised() -> None:
    """Looked at twelve times in each of 100 runs, the sequence errs in fewer than 5 % plus two standard errors."""
    plan = shadowed()
    wrong = sum(
        any(primary(plan, look).primary.result != "inconclusive" for look in sums(seed, (0.1, 0.1), 12))
        for seed in range(100)
    )
    assert wrong <= 5 + 2 * 2.2


def test_the_naive_interval_errs_on_the_same_looks() -> None:
    """The control: one look's interval, read twelve times, is wrong in far more runs."""
    plan = shadowed("fixed")
    wrong = sum(
        any(primary(plan, look).primary.result != "inconclusive" for look in sums(seed, (0.1, 0.1), 12))
        for seed in range(100)
    )
    assert wrong > 12


def test_pairs_see_what_arms_of_as_many_vehicles_do_not() -> None:
    """A shadow with a fifth less of false alarms passes in nearly all runs; the same vehicles taken as arms in few."""
    found = {"pairs": 0, "arms": 0}
    for seed in range(20):
        acting, shadow = pairs(seed, (0.2, 0.04))
        found["pairs"] += primary(shadowed(), (acting, shadow)).primary.result == "pass"
        half = np.arange(COUNT) % 2
        split = {name: np.where(half == 1, shadow.sums[name], acting.sums[name]) for name in acting.sums}
        arms = acting._replace(arm=half.astype(np.int8), sums=split)
        found["arms"] += compare(experiment(), arms).primary.result == "pass"
    assert found["pairs"] >= 19
    assert found["arms"] <= 5


def test_the_interval_is_of_the_difference_within_vehicles() -> None:
    """By hand: false alarms in 1,000 vehicle-days, of the shadow less than of the acting model."""
    acting, shadow = pairs(1, (0.3, 0.1))
    reading = primary(shadowed("fixed"), (acting, shadow)).primary
    d = shadow.sums["false_alarms"] - acting.sums["false_alarms"]
    harm = 1_000 * d.sum() / (27 * COUNT)
    width = 1.959964 * 1_000 * (d / 27).std(ddof=1) / COUNT**0.5
    assert (reading.harm, reading.low, reading.high) == pytest.approx((harm, harm - width, harm + width), rel=1e-5)


def test_the_sequence_is_as_wide_as_the_events_on_which_they_differ_allow() -> None:
    """By hand: its time is a quarter of their effective number, whatever both have in common."""
    acting, shadow = pairs(1, (0.3, 0.1))
    once, ever = (primary(shadowed(method), (acting, shadow)).primary for method in ("fixed", "sequence"))
    d = np.abs(shadow.sums["false_alarms"] - acting.sums["false_alarms"])
    factor = critical_z(d.sum() ** 2 / (d**2).sum() / 4, OPTIMUM, 0.05) / 1.959964
    assert (ever.high - ever.low) / (once.high - once.low) == pytest.approx(factor, rel=1e-5)


def test_a_shadow_that_never_differs_gets_no_verdict() -> None:
    """However many alarms both have, nothing speaks for either."""
    acting, _ = pairs(1, (0.5, 0.5))
    for method in ("sequence", "fixed"):
        reading = primary(shadowed(method), (acting, acting)).primary
        assert (reading.low, reading.high, reading.result) == (None, None, "inconclusive")


@pytest.mark.parametrize(("better", "result"), [(True, "pass"), (False, "fail")])
def test_detection_is_bet_on_by_the_first_fault_of_each_vehicle(better: bool, result: str) -> None:
    """A shadow that finds 80 of 100 faults where the acting model finds 40, and the other way round."""
    faults = np.arange(COUNT) < 200
    few, many = (side(np.zeros(COUNT), faults, faults & (np.arange(COUNT) % 5 < share)) for share in (2, 4))
    both = (few, many) if better else (many, few)
    reading = primary(shadowed("betting", "detected"), both).primary
    assert reading.result == result
    assert reading.low <= (-0.4 if better else 0.4) <= reading.high


def test_without_allowed_harm_only_vehicles_that_differ_count() -> None:
    """Twenty vehicles more with an alarm roll a shadow back, whatever both have; with harm allowed not yet."""
    none, both = np.zeros(COUNT, bool), (np.arange(COUNT) < 200).astype(float)
    more = (np.arange(COUNT) < 220).astype(float)
    results = []
    for max_harm in (0.0, 0.2):
        plan = experiment().guardrails[0]
        guardrail = msgspec.structs.replace(plan, metric="false_alarms", method="first_event", max_harm=max_harm)
        guarded = msgspec.structs.replace(shadowed(), guardrails=[guardrail])
        found = compare_pairs(guarded, side(both, none, none), side(more, none, none), None).guardrails[0]
        results.append((found.result, found.harm))
    assert results == [("fail", 0.1), ("inconclusive", 0.1)]


def test_vehicles_of_the_control_take_no_part() -> None:
    """They were scored by one model alone; the split of the vehicles is that of the assignment."""
    acting, shadow = pairs(1, (0.3, 0.1))
    arm = (np.arange(COUNT) % 4 > 0).astype(np.int8)
    found = primary(shadowed(), (acting._replace(arm=arm), shadow._replace(arm=arm)))
    assert [one.vehicles for one in found.arms] == [300, 300]
    assert (found.split.control, found.split.treatment) == (100, 300)
    assert sum(one.vehicles for one in found.slices) == 300


def test_the_intervals_of_figures_hold_what_they_say() -> None:
    """Over 60 fleets, the interval of the difference in alerts covers the true one in at least 85 %."""
    covered = 0
    for seed in range(60):
        acting, shadow = pairs(seed, (0.3, 0.1), count=200)
        figures = beside(_sums(acting, shadow), []).figures
        found = next(figure for figure in figures if figure.name.startswith("false alarms"))
        covered += found.low <= -0.2 * 1_000 / 27 <= found.high
    assert covered >= 51


def test_agreement_is_of_all_decisions_and_figures_without_faults_are_unknown() -> None:
    """Not a mean over vehicles; nothing is said of faults where there were none."""
    acting, shadow = pairs(1, (0.3, 0.1), count=4)
    compared, differing = np.array([97.0, 1, 1, 1]), np.array([0.0, 1, 0, 0])
    found = beside(_sums(acting, shadow)._replace(compared=compared, differing=differing), [])
    assert (found.agreement, found.compared) == (0.99, 100)
    assert next(figure for figure in found.figures if figure.name.startswith("lead")).difference is None


def _sums(acting: Vehicles, shadow: Vehicles) -> Sums:
    count = len(acting.names)
    both = [
        {name: one.sums[name] for name in ("alerts", "false_alarms", "detected", "lead_days", "cost")}
        | {"alarms": one.sums["alerts"], "alone": np.zeros(count)}
        for one in (acting, shadow)
    ]
    under = {name: acting.sums[name] for name in ("days", "mature_days", "faults")}
    return Sums(acting.names.to_pylist(), np.full(count, 100.0), np.zeros(count), both[0], both[1], under)
