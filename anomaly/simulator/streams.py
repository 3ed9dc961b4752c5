"""Random numbers that depend on nothing but what they are for: a further vehicle, a longer span or another cut into
chunks leaves all others as they were."""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np

from anomaly.compile import kernel


class Purpose(IntEnum):
    """What a stream of random numbers is drawn for."""

    WEATHER = 0
    BUILD = 1
    FAULT = 2
    UPKEEP = 3
    SENSORS = 4
    LABELS = 5


def stream(seed: int, purpose: Purpose, number: int) -> np.random.Generator:
    """The stream of one vehicle (of one region, for the weather) and one purpose."""
    return np.random.default_rng([seed, int(purpose), number])


@kernel
def uniform(key: int, when: int, lane: int) -> float:
    """A number in (0, 1) that belongs to (`key`, `when`, `lane`): SplitMix64 as a function of its counter.

    `key` is a uint64, `when` at least 0, `lane` 0..63. Source: Steele, Lea, Flood: Fast splittable pseudorandom number
    generators (OOPSLA 2014).
    """
    x = np.uint64(key) + (np.uint64(when) * np.uint64(64) + np.uint64(lane)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return (np.float64(x >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@kernel
def quantile(p: float) -> float:
    """The standard normal quantile of `p` in (0, 1), to a relative 1.2e-9: Acklam's rational approximation."""
    if 0.02425 <= p <= 0.97575:
        q = p - 0.5
        r = q * q
        top = -3.969683028665376e01 * r + 2.209460984245205e02
        top = ((top * r - 2.759285104469687e02) * r + 1.383577518672690e02) * r - 3.066479806614716e01
        low = -5.447609879822406e01 * r + 1.615858368580409e02
        low = ((low * r - 1.556989798598866e02) * r + 6.680131188771972e01) * r - 1.328068155288572e01
        return q * (top * r + 2.506628277459239) / (low * r + 1.0)
    q = math.sqrt(-2.0 * math.log(min(p, 1.0 - p)))
    top = -7.784894002430293e-03 * q - 3.223964580411365e-01
    top = ((top * q - 2.400758277161838) * q - 2.549732539343734) * q + 4.374664141464968
    low = (7.784695709041462e-03 * q + 3.224671290700398e-01) * q + 2.445134137142996
    tail = (top * q + 2.938163982698783) / ((low * q + 3.754408661907416) * q + 1.0)
    return tail if p < 0.5 else -tail


@kernel
def normal(key: int, when: int, lane: int) -> float:
    """A standard normal number that belongs to (`key`, `when`, `lane`)."""
    return quantile(uniform(key, when, lane))
