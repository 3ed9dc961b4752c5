"""The comparison of arms: by vehicle, by the method that was asked for, with what is not known said to be unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anomaly.experiments.compare import compare
from anomaly.experiments.file import Guardrail, Primary
from anomaly.experiments.report import lines
from tests.experiments.plan import changed, experiment, twins, vehicles

WORSE = ((0.5, 1.0), (0.9, 0.5))


def test_figures_are_ratios_of_sums_by_arm() -> None:
    """Each arm's figures are computed from its own vehicles alone."""
    table = vehicles(400, (1.0, 0.5), (0.9, 0.5))
    control, treatment = compare(experiment(), table).arms
    assert (control.arm, control.vehicles, control.vehicle_days) == ("old", 200, 6_000)
    expected = 1_000 * table.sums["false_alarms"][::2].sum() / (27 * 200)
    assert control.metrics["false_alarms"] == pytest.approx(expected, abs=1e-5)
    assert treatment.arm == "new"
    assert treatment.metrics["detected"] < control.metrics["detected"]


@pytest.mark.parametrize("metric", ["false_alarms", "detected", "lead", "cost"])
def test_harm_is_positive_where_the_treatment_is_worse(metric: Any) -> None:
    """More false alarms and fewer found faults are both harm, and the interval says so."""
    found = compare(changed(primary=Primary(metric=metric)), vehicles(2_000, *WORSE)).primary
    assert found.low is not None
    assert 0 < found.low <= found.harm <= found.high
    assert found.result == "fail"


@pytest.mark.parametrize(
    ("metric", "method"), [("detected", "betting"), ("detected", "first_event"), ("false_alarms", "first_event")]
)
def test_every_method_finds_harm_and_none_in_twins(metric: Any, method: Any) -> None:
    """Of a bad arm each says "fail", of an equal one it does not."""
    plan = changed(guardrails=[Guardrail(metric=metric, max_harm=0.0, method=method)])
    assert compare(plan, vehicles(3_000, *WORSE)).guardrails[0].result == "fail"
    assert compare(plan, twins(3_000)).guardrails[0].result == "inconclusive"


def test_alpha_is_split_over_the_guardrails() -> None:
    """Two guardrails have half each, or what one with its own leaves."""
    pair = [Guardrail(metric="detected", max_harm=0.1), Guardrail(metric="alerts", max_harm=1.0)]
    assert [one.alpha for one in compare(changed(guardrails=pair), twins(100)).guardrails] == [0.025, 0.025]
    own = [Guardrail(metric="detected", max_harm=0.1, alpha=0.01), pair[1]]
    assert compare(changed(guardrails=own), twins(100)).guardrails[1].alpha == pytest.approx(0.04)


def test_few_events_have_no_interval() -> None:
    """Nothing is said of 10 false alarms in both arms together."""
    found = compare(experiment(), vehicles(100, (0.1, 0.1), (0.9, 0.9))).primary
    assert (found.low, found.high, found.result) == (None, None, "inconclusive")


def test_what_cannot_be_divided_is_unknown() -> None:
    """Without faults nothing is known of detection; it is not zero, and not found equal."""
    table = vehicles(100, (1.0, 1.0), (1.0, 1.0))
    found = compare(experiment(), table._replace(sums={**table.sums, "faults": np.zeros(100)}))
    assert found.arms[0].metrics["detected"] is None
    assert found.guardrails[0].harm is None
    assert "detected (guardrail): unknown" in "\n".join(lines(found))


def test_vehicles_in_no_arm_are_left_out() -> None:
    """Nobody outside the experiment counts, and an arm without vehicles is said to be empty."""
    table = vehicles(100, (1.0, 1.0), (1.0, 1.0))
    found = compare(experiment(), table._replace(arm=np.where(table.arm == 1, 1, -1).astype(np.int8)))
    assert [arm.vehicles for arm in found.arms] == [0, 50]
    assert found.primary.low is None


def test_a_broken_split_is_said() -> None:
    """Six hundred vehicles against three hundred are not halves."""
    table = vehicles(1_200, (1.0, 1.0), (1.0, 1.0))
    lost = (table.arm == 1) & (np.arange(1_200) % 4 == 1)
    split = compare(experiment(), table._replace(arm=np.where(lost, -1, table.arm).astype(np.int8))).split
    assert split.broken
    assert not compare(experiment(), table).split.broken


def test_strata_and_the_pre_period_make_it_surer() -> None:
    """What a vehicle's region or past explains is taken off the noise, not off the difference."""
    rng = np.random.default_rng(0)
    table = vehicles(2_000, (1.0, 1.0), (1.0, 1.0))
    rate = np.where(np.arange(2_000) % 3 == 0, 6.0, 0.5)
    sums = {**table.sums, "false_alarms": rng.poisson(rate).astype(float), "pre_rate": rate}
    table = table._replace(sums=sums)
    plain = compare(changed(primary=Primary(metric="false_alarms", pre_period=False)), table).primary
    for plan in (changed(), changed(strata=["region"], primary=Primary(metric="false_alarms", pre_period=False))):
        surer = compare(plan, table).primary
        assert surer.high - surer.low < 0.8 * (plain.high - plain.low)


def test_slices_are_labelled_as_exploratory() -> None:
    """Each region with its vehicles; no verdict comes from them."""
    found = compare(experiment(), vehicles(300, (1.0, 1.0), (1.0, 1.0)))
    assert [(part.word, part.vehicles) for part in found.slices] == [("east", 100), ("north", 100), ("west", 100)]
    assert "exploratory, region east" in "\n".join(lines(found))
