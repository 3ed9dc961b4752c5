"""The third pass over a batch, where a model is tried beside the one that acts: what it would say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel
from anomaly.engine.layout import F4, IN_FAULT, IN_MAINTENANCE, Observed, Policies
from anomaly.engine.model import Model
from anomaly.engine.outcome import NO_SHADOWS, Decisions, Shadows
from anomaly.engine.settle import adapt
from anomaly.engine.state import VehicleState


@kernel
def overshadow(
    slots: NDArray[np.int64],
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    arms: NDArray[np.int16],
    observed: Observed,
    quantiles: NDArray[np.float32],
    policies: Policies,
    threshold: NDArray[np.float32],
    alarm: NDArray[np.bool_],
) -> None:
    """Thresholds and alarms of the decided `rows` [m] of a batch, `scores` [m] being their shadow models'.

    Each vehicle's own quantile of the shadow's scores learns here, from readings that are no alarm.
    """
    for place in range(rows.shape[0]):
        i = rows[place]
        slot = slots[i]
        arm = arms[slot]
        model = policies.model[arm]
        q = quantiles[model, slot]
        line = policies.k[arm]
        warm = observed.status[i] == 0
        judged = observed.note[i] & IN_MAINTENANCE == 0
        if warm:
            line *= min(max(q / policies.q_fleet[arm], policies.low[arm]), policies.high[arm])
        threshold[place] = line
        alarm[place] = warm and judged and scores[place] > line
        calm = not alarm[place] and observed.note[i] & IN_FAULT == 0
        if warm and judged and (calm or policies.gate[arm] == F4(np.inf)):
            quantiles[model, slot] = adapt(q, scores[place], arm, policies)


class Shadowed(NamedTuple):
    """The shadow model of each arm, None where it has none, and the threshold rules of them all."""

    models: Sequence[Model | None]
    policies: Policies


def shadows(
    slots: NDArray[np.int64], decisions: Decisions, observed: Observed, vehicles: VehicleState, shadowed: Shadowed
) -> Shadows:
    """What shadow models say of the decided readings of their vehicles."""
    has = np.array([model is not None for model in shadowed.models])
    if not has.any():
        return NO_SHADOWS
    own = np.flatnonzero(has[decisions.arm])
    rows, arm = decisions.row[own], decisions.arm[own]
    scores, threshold = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
    alarm = np.zeros(len(rows), np.bool_)
    for position, model in enumerate(shadowed.models):
        part = np.flatnonzero(arm == position)
        if model is not None and len(part):
            scores[part] = model.scorer.score(observed.features[rows[part]])
    overshadow(slots, rows, scores, vehicles.arms, observed, vehicles.quantiles, shadowed.policies, threshold, alarm)
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
