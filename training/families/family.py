"""What a family of models is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Evidence(NamedTuple):
    """What a family is fitted on: `features` [n, width] of training vehicles past burn-in, `healthy` [n], `faulty` [n]
    (inside a confirmed fault), `faultless` [n] (healthy, of vehicles that have none), `noise` [d, d] the covariance of
    single readings, `weight` of one in the evidence, `signals` d, `seed` of what is drawn; `blocks` of d columns (1,
    or 6 of wide features, 4 of conformal ones); and which `label_term` is asked for."""

    features: Floats
    healthy: NDArray[np.bool_]
    faulty: NDArray[np.bool_]
    faultless: NDArray[np.bool_]
    noise: Floats
    weight: float
    signals: int
    seed: int
    blocks: int = 1
    label_term: Literal["logistic", "boosting", "none"] = "logistic"

    @property
    def columns(self) -> int:
        """Columns of `features` that are no padding."""
        return self.blocks * self.signals

    @property
    def median(self) -> Floats | None:
        """Healthy median of each column [width]; None where it is 0 by construction, as that of evidence is."""
        return None if self.blocks == 1 else np.asarray(np.median(self.features[self.healthy], axis=0))

    def scale(self) -> tuple[Floats, Floats]:
        """Healthy mean and spread of each column [columns], a spread of 0 being 1; the mean of evidence is 0."""
        healthy = self.features[self.healthy][:, : self.columns]
        spread = healthy.std(axis=0)
        mean = np.zeros(self.columns) if self.blocks == 1 else healthy.mean(axis=0)
        return mean, np.where(spread > 0, spread, 1.0)


ThresholdFrom = Literal["all", "validation"]


class Fitted(NamedTuple):
    """A fitted model: its ONNX bytes, the estimator in float64 that they must agree with, and whose healthy readings
    its label term allows a threshold to be set with."""

    onnx: bytes
    score: Callable[[Floats], Floats]
    threshold_from: ThresholdFrom = "all"


class Family(NamedTuple):
    """How a family is fitted, and whose healthy readings set its threshold.

    A family that remembers single readings scores those that it was fitted on too low, and a threshold set on them
    alarms too often on others: its k comes from the validation vehicles alone. The rest use all vehicles, which
    makes k steadier.
    """

    fit: Callable[[Evidence], Fitted]
    threshold_from: ThresholdFrom = "all"
