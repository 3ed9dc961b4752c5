"""A vehicle's own threshold, which learns its usual level slowly and can never absorb a fault."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from river import base

from anomaly.engine.layout import MOST_UNCONFIRMED
from anomaly.engine.model import ThresholdPolicy
from anomaly.errors import ConfigError, StateError

VERSION = 2
DEFAULT_POLICY = ThresholdPolicy.from_adaptation(0.2)


class AdaptiveThreshold(base.AnomalyFilter, base.AnomalyDetector):  # type: ignore[misc]  # River is untyped to mypy
    """An anomaly filter (and itself a detector) whose threshold follows a quantile of the scores, within a bound.

    A score is an alarm above

        threshold = k * clip(q / q_fleet, 1 - bound, 1 + bound) * raised ** unconfirmed

    where q tracks the `policy.quantile` of the scores on a logarithmic scale, starting at `q_fleet`. After each
    finite score below `gate * q`

        ln q += rate * (1[score > q] - (1 - quantile)),  then q is clipped to q_fleet * (1 -+ bound).

    (Stochastic approximation of a quantile: Robbins and Monro 1951, with a constant step.) The bound is the proof
    that no sequence of scores, however slow its rise, moves the threshold by more than `bound`. `unconfirmed` are the
    episodes of alarms that ended without a confirmed fault, five at most: who follows episodes tells of them with
    `episode_ended`. Scores that are NaN or infinite change nothing. All arithmetic is in float32, bit-equal to
    `anomaly.engine.settle`.

    Parameters
    ----------
    anomaly_detector
        Any River anomaly detector; its scores are >= 0, high ones anomalous.
    k
        The fleet's threshold, in the unit of the scores (> 0).
    q_fleet
        The fleet's `policy.quantile` of healthy scores (> 0), where q starts.
    policy
        Bound, rate, gate and quantile; `ThresholdPolicy.from_adaptation` makes one from a single number.
    protect_anomaly_detector
        Whether the detector learns only from readings whose score is finite and no alarm. A detector that answers
        NaN before it has learned must not be protected: it would never begin.

    Examples
    --------
    >>> from river.anomaly import HalfSpaceTrees
    >>> from anomaly.thresholds.adaptive import AdaptiveThreshold

    >>> threshold = AdaptiveThreshold(HalfSpaceTrees(seed=1), k=2.0, q_fleet=1.0)
    >>> threshold.classify(1.9), threshold.classify(2.1)
    (False, True)
    >>> for _ in range(1_000):
    ...     threshold.update(0.5)
    >>> threshold.threshold
    1.7999999523162842

    """

    def __init__(
        self,
        anomaly_detector: Any,
        k: float,
        q_fleet: float,
        policy: ThresholdPolicy = DEFAULT_POLICY,
        protect_anomaly_detector: bool = True,
    ) -> None:
        super().__init__(anomaly_detector, protect_anomaly_detector)
        self.k = k
        self.q_fleet = q_fleet
        self.policy = policy
        for name, value in {"k": k, "q_fleet": q_fleet}.items():
            if not (math.isfinite(value) and value > 0.0):
                raise ConfigError(f"a threshold's {name} must be a positive number, not {value}")
        self._k = np.float32(k)
        self._q_fleet = np.float32(q_fleet)
        self._low = np.float32(policy.low)
        self._high = np.float32(policy.high)
        self._up = np.float32(np.exp(policy.rate * policy.quantile))
        self._down = np.float32(np.exp(-policy.rate * (1.0 - policy.quantile)))
        self._gate = np.float32(policy.gate)
        self._raised = np.float32(policy.raised)
        self._q = self._q_fleet
        self._unconfirmed = 0

    @property
    def threshold(self) -> float:
        """The score above which there is an alarm, as it is now."""
        with np.errstate(over="ignore"):
            factor = min(max(self._q / self._q_fleet, self._low), self._high)
            for _ in range(self._unconfirmed):
                factor *= self._raised
            return float(self._k * factor)

    @property
    def q(self) -> float:
        """The tracked quantile of this vehicle's scores, as it is now."""
        return float(self._q)

    def classify(self, score: float) -> bool:
        """Whether `score` is an alarm; NaN is none."""
        with np.errstate(over="ignore"):
            return bool(np.float32(score) > self.threshold)

    def update(self, score: float) -> None:
        """Learn from one score, after it was classified: score first, learn after."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            value = np.float32(score)
            if not np.isfinite(value) or not value < self._gate * self._q:
                return
            q = self._q * (self._up if value > self._q else self._down)
            self._q = min(max(q, self._q_fleet * self._low), self._q_fleet * self._high)

    def episode_ended(self, confirmed: bool) -> None:
        """An episode of alarms is over: the threshold rises; if a fault was confirmed, all rises are taken back."""
        self._unconfirmed = 0 if confirmed else min(self._unconfirmed + 1, MOST_UNCONFIRMED)

    def learn_one(self, *args: Any, **learn_kwargs: Any) -> None:
        """Score once, learn the threshold from that score, and let the detector learn unless it is protected."""
        score = self.score_one(*args)
        learns = not self.protect_anomaly_detector or (math.isfinite(score) and not self.classify(score))
        self.update(score)
        if learns:
            self.anomaly_detector.learn_one(*args, **learn_kwargs)

    def to_state(self) -> dict[str, int | float]:
        """All that it has learned, as plain numbers; the detector's own state is not in it."""
        return {"version": VERSION, "q": self.q, "unconfirmed": self._unconfirmed}

    def from_state(self, state: Mapping[str, int | float]) -> None:
        """Go on from what `to_state` gave; StateError, and no change, if it does not fit this threshold."""
        version, q, unconfirmed = state.get("version"), state.get("q", math.nan), state.get("unconfirmed", -1)
        if version != VERSION:
            raise StateError(f"threshold state has version {version}, this program reads {VERSION}; update it")
        with np.errstate(over="ignore"):
            value = np.float32(q)
            fits = self._q_fleet * self._low <= value <= self._q_fleet * self._high
        if not (np.isfinite(value) and fits):
            raise StateError(
                f"threshold state q = {q} is outside the bound of q_fleet = {self.q_fleet}: it belongs to another "
                f"model; start again from q_fleet"
            )
        if unconfirmed not in range(MOST_UNCONFIRMED + 1):
            raise StateError(f"threshold state unconfirmed = {unconfirmed} is not one of 0 to {MOST_UNCONFIRMED}")
        self._q, self._unconfirmed = value, int(unconfirmed)

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        from river import anomaly, preprocessing

        detector = preprocessing.StandardScaler() | anomaly.OneClassSVM(nu=0.2)
        yield {"anomaly_detector": detector, "k": 1.0, "q_fleet": 0.5}
