"""The one constant of a threshold, from the false-alarm budget."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
from numpy.typing import NDArray

LEAST_K = 1e-3
"""In nats: a threshold is never 0, however large the budget."""


def choose_k(
    level: NDArray[np.float32], codes: NDArray[np.int64], rank: NDArray[np.int64], gap: int, allowed: float
) -> float:
    """The smallest k for which it and every larger one alarm in at most `allowed` episodes.

    `level` float32[n] is the score over the vehicle's own factor of the threshold, so that a reading alarms where
    level > k; `codes` and `rank` say whose reading it is and which of the vehicle's own; two alarms of a vehicle
    are one episode if at most `gap` readings lie between their ranks. Alarms are added from the highest level down
    and the episodes counted as they split and join; readings of equal level come together.
    """
    order = np.argsort(-level, kind="stable")
    alarms: dict[int, list[int]] = {}
    episodes = 0
    for position, row in enumerate(order):
        ranks = alarms.setdefault(int(codes[row]), [])
        at = bisect_left(ranks, int(rank[row]))
        near_before = at > 0 and rank[row] - ranks[at - 1] <= gap
        near_after = at < len(ranks) and ranks[at] - rank[row] <= gap
        joined = 0 < at < len(ranks) and ranks[at] - ranks[at - 1] <= gap
        episodes += 1 - near_before - near_after + joined
        insort(ranks, int(rank[row]))
        is_last_of_level = position + 1 == len(order) or level[order[position + 1]] < level[row]
        if is_last_of_level and episodes > allowed:
            return _between(level, order, position)
    return max(float(np.nextafter(level.min(initial=np.float32(1)), np.float32(0))), LEAST_K)


def _between(level: NDArray[np.float32], order: NDArray[np.int64], position: int) -> float:
    """Halfway from the level that broke the budget to the next higher one."""
    breaking = float(level[order[position]])
    higher = level[order[: position + 1]]
    higher = higher[higher > level[order[position]]]
    return (breaking + float(higher.min())) / 2 if len(higher) else breaking * 1.01
