"""What a family of models is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Evidence(NamedTuple):
    """What a family is fitted on: `features` [n, width] of training vehicles past burn-in, `healthy` [n],
    `late` [n] (unknown or fault, of vehicles with a confirmed fault), `noise` [d, d] the covariance of single
    readings, `signals` d, `seed` of whatever is drawn."""

    features: Floats
    healthy: NDArray[np.bool_]
    late: NDArray[np.bool_]
    noise: Floats
    signals: int
    seed: int


class Fitted(NamedTuple):
    """A fitted model: its ONNX bytes, and the estimator in float64 that they must agree with."""

    onnx: bytes
    score: Callable[[Floats], Floats]


class Family(NamedTuple):
    """How a family is fitted, and whose healthy readings set its threshold.

    A family that remembers single readings scores those that it was fitted on too low, and a threshold set on them
    alarms too often on others: its k comes from the validation vehicles alone. The rest use all vehicles, which
    makes k steadier.
    """

    fit: Callable[[Evidence], Fitted]
    threshold_from: Literal["all", "validation"] = "all"
