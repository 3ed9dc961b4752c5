"""Who is sampled: hashes of vehicle and time, so that a replay samples the same readings and needs no state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE, AUDIT, LONG_ALARM = 1, 2, 3
"""What the draw is for: draws for different purposes are independent."""


def drawn(
    hashes: NDArray[np.uint64], when: NDArray[np.int64], share: float | NDArray[np.float64], purpose: int
) -> NDArray[np.bool_]:
    """Whether each of n (vehicle, time) pairs is in a sample of `share`, bool[n].

    `hashes` are the CRC-32 of the vehicles' ids, uint64[n].

    Hash and time go through the finaliser of SplitMix64 (Steele, Lea and Flood 2014); its upper 53 bits are a uniform
    number in [0, 1), and the pair is in if that is below `share`.
    """
    mixed = _mix(_mix(hashes + np.uint64(purpose << 32)) ^ when.astype(np.uint64))
    uniform = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.asarray(uniform < share)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
