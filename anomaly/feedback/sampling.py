"""Who is sampled: hashes of vehicle and time, so that a replay samples the same readings and needs no state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly.telemetry.text import uniform

SAMPLE, AUDIT, LONG_ALARM = 1, 2, 3
"""What the draw is for: draws for different purposes are independent."""


def drawn(
    hashes: NDArray[np.uint64], when: NDArray[np.int64], share: float | NDArray[np.float64], purpose: int
) -> NDArray[np.bool_]:
    """Whether each of n (vehicle, time) pairs is in a sample of `share`, bool[n].

    `hashes` are the CRC-32 of the vehicles' ids, uint64[n]. A pair is in if its uniform number is below `share`.
    """
    return np.asarray(uniform(hashes, when, purpose) < share)
