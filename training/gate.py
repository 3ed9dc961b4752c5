"""The gate before a rollout: a challenger must not be worse than the champion on the newest past."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.engine.frame import Frame
from anomaly.engine.model import Model
from anomaly.fleet import Fleet
from training.backtest import Before, backtest
from training.figures import Decided, Figures, costs_by_vehicle, headline
from training.history import History

MOST_FALSE_ALARMS = 2.0
LIKELY_WORSE = 0.95
FEWEST_LOST = 2
"""Faults that only the champion finds: a single one is no evidence."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate saw: `reasons` against the challenger (none: it passes), both models' figures, and how likely it
    is (bootstrap over vehicles, paired) that the challenger costs more than the champion."""

    reasons: list[str]
    champion: Figures
    challenger: Figures
    probability_worse: float

    @property
    def passed(self) -> bool:
        """Whether the challenger may be rolled out."""
        return not self.reasons


def gate(
    fleet: Fleet, frame: Frame, champion: Model, challenger: Model, newest: History, since: int | None = None
) -> Report:
    """Both models over the same vehicles and time, up to `since` the champion alone; the challenger is refused for what
    a person would refuse it for."""
    old = backtest(fleet, frame, champion, newest).decided
    new = backtest(fleet, frame, challenger, newest, None if since is None else Before(champion, since)).decided
    return judge(fleet, old, new)


def judge(fleet: Fleet, old: Decided, new: Decided) -> Report:
    """What the champion (`old`) and the challenger decided on the same past, paired by vehicle."""
    worse = probability_worse(costs_by_vehicle(old, fleet), costs_by_vehicle(new, fleet))
    champion, challenger = headline(old, fleet), headline(new, fleet)
    return Report(
        reasons=_reasons(fleet, champion, challenger, worse),
        champion=champion,
        challenger=challenger,
        probability_worse=worse,
    )


def probability_worse(champion: NDArray[np.float64], challenger: NDArray[np.float64]) -> float:
    """Share of 2,000 bootstrap samples of vehicles in which the challenger costs more (Efron 1979); ties half."""
    difference = challenger - champion
    drawn = np.random.default_rng(0).choice(difference, (2_000, len(difference))).sum(axis=1)
    return float(np.mean(drawn > 0) + np.mean(drawn == 0) / 2)


def _reasons(fleet: Fleet, old: Figures, new: Figures, worse: float) -> list[str]:
    reasons = []
    allowed = max(MOST_FALSE_ALARMS * fleet.threshold.false_alarms, old.false_alarms_interval[1])
    if new.false_alarms_per_1000_days > allowed and new.false_alarms_interval[0] > fleet.threshold.false_alarms:
        reasons.append(
            f"false alarms: {new.false_alarms_per_1000_days:.2f} per 1,000 healthy days, at most {allowed:.2f} allowed"
        )
    if worse > LIKELY_WORSE:
        reasons.append(
            f"cost: {new.cost:,.0f} against the champion's {old.cost:,.0f}, worse in {100 * worse:.0f} % of samples"
        )
    before, after = (old.detected or 0.0), (new.detected or 0.0)
    if after < 0.5 * before and round((before - after) * old.faults) >= FEWEST_LOST:
        reasons.append(f"faults found: {100 * after:.0f} % against the champion's {100 * before:.0f} %")
    return reasons
