"""Independent random streams, so that a further vehicle or a longer span leaves the others as they were."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream of random numbers is drawn for."""

    WEATHER = 0
    BUILD = 1
    USAGE = 2
    FAULT = 3
    UPKEEP = 4
    NOISE = 5
    TRANSPORT = 6
    LABELS = 7


def stream(seed: int, purpose: Purpose, number: int) -> np.random.Generator:
    """The stream of one vehicle (of one region, for the weather) and one purpose."""
    return np.random.default_rng([seed, int(purpose), number])
