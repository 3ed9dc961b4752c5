"""What the engine needs of a model and of an experiment's arm: values, no files."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Scorer(Protocol):
    """Whole micro-batches to scores, the same bits for every way of cutting them."""

    def score(self, features: Floats) -> Floats:
        """float32[n, width] to calibrated scores in nats, float32[n], >= 0."""

    def contributions(self, features: Floats) -> Floats:
        """float32[n, width] to the share of each signal, float32[n, signals]; >= 0, rows sum to 1."""


class ThresholdPolicy(NamedTuple):
    """How a vehicle's own threshold moves; the formula is in `anomaly.thresholds.adaptive`.

    `bound` is the largest relative distance that q takes it from the fleet's threshold, `rate` the step of ln q at one
    reading, `gate` the multiple of q above which nothing is learned (inf: no gate), `quantile` the one that q tracks.
    """

    bound: float
    rate: float
    gate: float
    quantile: float = 0.95

    @property
    def low(self) -> float:
        """Smallest factor of the fleet's threshold; never 0, however free the policy."""
        return max(1e-3, 1.0 - self.bound)

    @property
    def high(self) -> float:
        """Largest factor of the fleet's threshold."""
        return 1.0 + self.bound

    @property
    def raised(self) -> float:
        """What each fault episode that ended without a confirmed fault multiplies the vehicle's threshold by."""
        return 1.0 + 2.0 * self.bound if math.isfinite(self.bound) else 1.0

    def factor(self, ratio: float, unconfirmed: int) -> float:
        """A vehicle's threshold in those of the fleet: its quantile is `ratio` times the fleet's, and so many of its
        alarms came to nothing."""
        return min(max(ratio, self.low), self.high) * self.raised**unconfirmed

    @classmethod
    def from_adaptation(cls, adaptation: float) -> ThresholdPolicy:
        """The one knob: 0 frozen, 1 without bound and gate."""
        if adaptation >= 1.0:
            return cls(bound=float("inf"), rate=0.1, gate=float("inf"))
        return cls(bound=adaptation / 2, rate=0.1 * adaptation, gate=1.3)


class Checks(NamedTuple):
    """Thresholds of the kinds of alarm that have a share of the budget of their own; inf: that kind is off.

    `abrupt` is of the model's score of abrupt evidence, `born_ill` of the distance that `Frame.basis` measures,
    `silence` counts the vehicle's own rhythms without a reading, `cohort` is of the distance between a cohort and the
    others, measured with `cohort_spread`, the usual one of each signal (see `anomaly.engine.cohort_check`).
    """

    abrupt: float = math.inf
    born_ill: float = math.inf
    silence: float = math.inf
    cohort: float = math.inf
    cohort_spread: tuple[float, ...] = ()

    @property
    def numbers(self) -> tuple[float, ...]:
        """All of them in order; those of cohorts only where that check is on."""
        own = (self.abrupt, self.born_ill, self.silence)
        return (*own, self.cohort, *self.cohort_spread) if math.isfinite(self.cohort) else own


class Model(NamedTuple):
    """A model as the engine uses it: `name` for people ("fleet/3"), `digest` for machines.

    `k` is the threshold in nats that keeps the budget, `q_fleet` the fleet's 95 % quantile of healthy scores, `checks`
    are the thresholds of the kinds of alarm beside faults; `abrupt` scores the evidence for abrupt ones, where there is
    any.
    """

    name: str
    digest: str
    scorer: Scorer
    k: float
    q_fleet: float
    policy: ThresholdPolicy
    checks: Checks = Checks()
    abrupt: Scorer | None = None


class Arm(NamedTuple):
    """One arm of a rollout: who is in it scores with `model`; `propensity` is the share of vehicles in it. `shadow`, of
    the same frame, scores the same readings beside it and never acts."""

    name: str
    propensity: float
    model: Model
    shadow: Model | None = None
