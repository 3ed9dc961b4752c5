"""The third pass over a batch, where a model is tried beside the one that acts: what it would say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel
from anomaly.engine.arrays import policies
from anomaly.engine.layout import F4, IN_FAULT, IN_MAINTENANCE, UNSEEN, WIDER, Observed, Policies
from anomaly.engine.model import Arm, Model
from anomaly.engine.outcome import NO_SHADOWS, Decisions, Kind, Shadows
from anomaly.engine.settle import adapt, own_factor
from anomaly.engine.state import VehicleState

SHIFT = 1 << int(Kind.LASTING_SHIFT)


@kernel
def overshadow(
    slots: NDArray[np.int64],
    rows: NDArray[np.int64],
    kinds: NDArray[np.uint16],
    scores: NDArray[np.float32],
    arms: NDArray[np.int16],
    observed: Observed,
    unconfirmed: NDArray[np.uint8],
    own: NDArray[np.float32],
    policies: Policies,
    opened: NDArray[np.int64],
    gap: int,
    threshold: NDArray[np.float32],
    alarm: NDArray[np.bool_],
) -> None:
    """Thresholds and alarms of the decided `rows` [m] of a batch, `scores` [m] being their shadow models', `kinds` [m]
    what the acting model found; `unconfirmed` is of every reading of the batch, as `Settled` has it.

    Each vehicle's own quantile of the shadow's scores learns here, as it would if the shadow acted: from readings in
    no episode that it would have. `own` has that quantile, and in the row `opened` of an arm the readings without alarm
    after which the episode would end, 0: there is none. Where features were moved by a lasting shift it ends.
    """
    for place in range(rows.shape[0]):
        i = rows[place]
        slot = slots[i]
        arm = arms[slot]
        model = policies.model[arm]
        q, left = own[model, slot], own[opened[arm], slot]
        line = policies.k[arm]
        warm = observed.status[i] == 0
        judged = observed.note[i] & IN_MAINTENANCE == 0
        if warm:
            line *= own_factor(q, int(unconfirmed[i]), arm, policies)
        line *= WIDER if observed.note[i] & UNSEEN else F4(1.0)
        threshold[place] = line
        alarm[place] = warm and judged and scores[place] > line
        calm = not (left > F4(0.0) or alarm[place] or observed.note[i] & (IN_FAULT | UNSEEN) > 0)
        if warm and judged and (calm or policies.gate[arm] == F4(np.inf)):
            own[model, slot] = adapt(q, scores[place], arm, policies)
        if judged:
            left = F4(gap) if alarm[place] else max(left - F4(1.0), F4(0.0))
        own[opened[arm], slot] = F4(0.0) if kinds[place] & SHIFT else left


class Shadowed(NamedTuple):
    """The shadow model of each arm, None where it has none, and the threshold rules of them all; `opened` int64[arms]
    is the row of a vehicle's numbers that counts down its would-be episode, `gap` where that count begins."""

    models: Sequence[Model | None]
    policies: Policies
    opened: NDArray[np.int64]
    gap: int

    @classmethod
    def of(cls, arms: Sequence[Arm], state: VehicleState, gap: int) -> Shadowed:
        """Those of these arms, with rows in `state` that a model has to itself."""
        models = [arm.shadow or arm.model for arm in arms]
        rows = [state.model_row(model.digest, model.q_fleet) for model in models]
        opened = [state.model_row(f"{arm.shadow.digest}/open", 0.0) if arm.shadow else -1 for arm in arms]
        return cls([arm.shadow for arm in arms], policies(models, rows), np.array(opened, np.int64), gap)


def shadows(
    slots: NDArray[np.int64],
    decisions: Decisions,
    observed: Observed,
    unconfirmed: NDArray[np.uint8],
    vehicles: VehicleState,
    shadowed: Shadowed,
) -> Shadows:
    """What shadow models say of the decided readings of their vehicles."""
    if all(model is None for model in shadowed.models):
        return NO_SHADOWS
    has = np.array([model is not None for model in shadowed.models])
    own = np.flatnonzero(has[decisions.arm])
    rows, arm = decisions.row[own], decisions.arm[own]
    scores, threshold = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
    alarm = np.zeros(len(rows), np.bool_)
    for position, model in enumerate(shadowed.models):
        part = np.flatnonzero(arm == position)
        if model is not None and len(part):
            scores[part] = model.scorer.score(observed.features[rows[part]])
    overshadow(
        slots,
        rows,
        decisions.kinds[own],
        scores,
        vehicles.arms,
        observed,
        unconfirmed,
        vehicles.quantiles,
        shadowed.policies,
        shadowed.opened,
        shadowed.gap,
        threshold,
        alarm,
    )
    return Shadows(rows, scores, threshold, alarm, arm, _shares(observed, rows[alarm], arm[alarm], shadowed.models))


def _shares(
    observed: Observed, rows: NDArray[np.int64], arm: NDArray[np.int16], models: Sequence[Model | None]
) -> NDArray[np.float32]:
    """The share of each signal in the scores of `rows`, by the shadow models of their arms."""
    share = np.zeros((len(rows), observed.reason.shape[1]), np.float32)
    for position, model in enumerate(models):
        part = np.flatnonzero(arm == position)
        if model is not None and len(part):
            share[part] = model.scorer.contributions(observed.features[rows[part]])
    return share
