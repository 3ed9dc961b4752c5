"""The weather of each region, and the fuel that is sold in it, day by day."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anomaly.simulator.config import DAY_MS, SimulationConfig
from anomaly.simulator.streams import Purpose, stream
from anomaly.simulator.vehicles import Floats

HOTTEST_DAY = 200.0
WINTER_TRIM_PERCENT = 1.6
"""What winter fuel adds to the trims."""


class Region(NamedTuple):
    """The climate of a region: mean, half the span of the year and of a day, spread of passing fronts."""

    mean_c: float
    season_c: float
    day_c: float
    front_c: float


REGIONS = (Region(7.0, 9.0, 3.5, 3.0), Region(8.0, 9.5, 5.5, 3.5), Region(15.0, 7.0, 3.5, 2.0))


class Climate(NamedTuple):
    """By region and midnight, from the start: air temperature `air_c` and trim by the fuel `fuel_percent`, both
    [regions, days + 2]; `day_c` [regions] is half the span of a day."""

    air_c: Floats
    fuel_percent: Floats
    day_c: Floats


def climate(seed: int, config: SimulationConfig) -> Climate:
    """The weather and fuel of the whole span; without seasons it stays as on the span's first day."""
    midnights = config.start_ms / DAY_MS + np.arange(config.days + 2, dtype=np.float64)
    whole = _year(midnights - HOTTEST_DAY)
    year = whole[0] + config.season * (whole - whole[0])
    winter = 1.0 / (1.0 + np.exp(6.0 * (year + 0.25)))
    return Climate(
        air_c=np.stack(
            [
                region.mean_c + region.season_c * year + region.front_c * _fronts(seed, number, config.days)
                for number, region in enumerate(REGIONS)
            ]
        ),
        fuel_percent=np.stack([(0.6 + 0.2 * number) * WINTER_TRIM_PERCENT * winter for number in range(len(REGIONS))]),
        day_c=np.array([region.day_c for region in REGIONS]),
    )


def _year(days: Floats) -> Floats:
    return np.asarray(np.cos(2.0 * np.pi * days / 365.2425))


def _fronts(seed: int, region: int, days: int) -> Floats:
    """A stationary first-order process of unit spread, one value a day, memory of about four days."""
    shock = stream(seed, Purpose.WEATHER, region).standard_normal(days + 2)
    keep = float(np.exp(-1.0 / 4.0))
    level = shock.copy()
    for day in range(1, len(level)):
        level[day] = keep * level[day - 1] + np.sqrt(1.0 - keep**2) * shock[day]
    return level
