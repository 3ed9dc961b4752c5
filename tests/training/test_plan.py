"""Plans and simulations: what a file could find on a fleet, and what it would do, by the rules that run live."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from anomaly.errors import ConfigError
from anomaly.experiments.file import Experiment, Guardrail, Primary, Step
from tests.engine import world
from tests.experiments.plan import changed
from training.experiments.past import Events, Seen, read_past
from training.experiments.plan import plan
from training.experiments.simulate import Effect, simulate

FALSE_ALARMS = Primary(metric="false_alarms")


def past(vehicles: int, rate: float, days: int = 30, seed: int = 0) -> Seen:
    """A fleet with so many false alarms a vehicle-day, from vehicles that differ, and a fault in one of ten."""
    rng = np.random.default_rng(seed)
    alarms = rng.poisson(rng.gamma(1.0, rate, vehicles)[:, None], (vehicles, days))
    who, when = np.nonzero(alarms)
    events = Events(np.repeat(who, alarms[who, when]), np.repeat(when, alarms[who, when]))
    ill = np.flatnonzero(rng.random(vehicles) < 0.1)
    faults = Events(ill, rng.integers(0, days, len(ill)))
    found = rng.random(len(ill)) < 0.8
    names = pa.array([f"v{row}" for row in range(vehicles)])
    return Seen(names, np.ones((vehicles, days), bool), events, events, faults, found, 5.0 * found)


def file(**fields: object) -> Experiment:
    """An experiment of thirty days on false alarms."""
    return changed(**{"guardrails": [], "max_days": 30.0, "primary": FALSE_ALARMS, **fields})


def test_more_vehicles_have_more_power() -> None:
    """4,000 vehicles find a fifth less, 40 do not; the time it takes has the label delay in it."""
    many, few = (plan(file(), past(count, 0.05)).metrics[0] for count in (4_000, 40))
    assert many.enough
    assert not few.enough
    assert few.days is None
    assert 3 < many.days <= 30
    assert many.base == pytest.approx(50, rel=0.2)


def test_a_guardrail_that_cannot_fire_is_named() -> None:
    """A doubling of what is missed, among few faults, is not found; the same for alerts is."""
    rare = Guardrail(metric="detected", max_harm=0.0, method="betting")
    often = Guardrail(metric="alerts", max_harm=0.0, method="first_event")
    found = plan(file(guardrails=[rare, often]), past(1_000, 0.005))
    assert [one.metric for one in found.underpowered] == ["detected"]


def test_a_metric_without_data_has_no_power() -> None:
    """Nothing is known of the lead of a fleet without faults."""
    seen = past(500, 0.05)
    none = np.zeros(0, np.int64)
    seen = seen._replace(faults=Events(none, none), detected=np.zeros(0, bool), lead_days=np.zeros(0))
    found = plan(file(primary=Primary(metric="lead")), seen).metrics[0]
    assert (found.base, found.power, found.days) == (None, 0.0, None)


def test_the_plan_agrees_with_the_simulation() -> None:
    """A primary with much power is promoted in most replays with its effect, and hardly ever without one."""
    seen, what = past(600, 0.1), file(min_days=10.0, primary=Primary(metric="false_alarms", mde=0.4))
    assert plan(what, seen).metrics[0].power > 0.8
    better = simulate(what, seen, Effect(false_alarms=-0.4), 15)
    equal = simulate(what, seen, Effect(), 15)
    assert better.promoted > 0.7
    assert better.days_to_promotion >= 13
    assert (equal.promoted, equal.rolled_back) <= (0.14, 0.14)
    assert equal.held > 0.8


def test_harm_is_rolled_back_sooner_than_it_could_be_promoted() -> None:
    """Twice as many alarms end it by the guardrail, before min_days, on the first step of the ramp too."""
    guardrail = Guardrail(metric="false_alarms", max_harm=10.0)
    what = file(guardrails=[guardrail], min_days=20.0, ramp=[Step(share=0.5, min_days=15), Step(share=1.0)])
    worse = simulate(what, past(600, 0.1), Effect(false_alarms=1.0), 10)
    assert worse.rolled_back == 1.0
    assert worse.days_to_rollback < 20


def test_the_same_past_is_simulated_the_same() -> None:
    """Seeded: a person can repeat what was reported."""
    seen = past(200, 0.1)
    assert simulate(file(), seen, Effect(-0.5), 3) == simulate(file(), seen, Effect(-0.5), 3)


def test_a_shadow_is_not_planned_by_the_past(tmp_path: Path) -> None:
    """A person is told why, and that nothing is risked by a start."""
    control, treatment = file().arms
    tried = file(arms=[control, msgspec.structs.replace(treatment, mode="shadow")])
    with pytest.raises(ConfigError, match=r"new is a shadow: .* start it"):
        read_past(tmp_path, world.fleet(), tried)
