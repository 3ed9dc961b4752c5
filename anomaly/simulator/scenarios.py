"""Named fleets: ten stories, each made to be hard for some way of finding faults, and the sample's recipe."""

from __future__ import annotations

from datetime import date

import msgspec

from anomaly.errors import UsageError
from anomaly.simulator.config import SimulationConfig

_CALM = SimulationConfig(
    name="fleet",
    vehicles=200,
    days=240,
    start=date(2024, 10, 1),
    train_share=0.5,
    faults=0.3,
    history_faults=0.3,
    abrupt=0.1,
    season=0.15,
    upkeep=0.3,
)
_HEALTHY = {"faults": 0.0, "history_faults": 0.0}


def _story(name: str, /, **changes: object) -> SimulationConfig:
    return msgspec.structs.replace(_CALM, name=name, **changes)


SCENARIOS: dict[str, tuple[str, SimulationConfig]] = {
    "demo": ("a year's weather, everyday nuisances, faults of every kind; no history apart", SimulationConfig()),
    "A": (
        "stable fleet, strong faults of the kinds seen in history",
        _story("stable", spread=0.3, strength=1.6, upkeep=0.0),
    ),
    "B": (
        "vehicles as unlike each other as early faults are from health",
        _story("unlike", spread=2.2, upkeep=0.0),
    ),
    "C": (
        "faults that take two to five months",
        _story("slow", days=360, duration=3.0, abrupt=0.0, upkeep=0.0),
    ),
    "D": (
        "trained on a summer; then a winter, and new firmware for one type",
        _story("season", start=date(2024, 5, 1), days=360, train_share=1 / 3, season=1.0, firmware=True),
    ),
    "E": (
        "services that move signals, one vehicle at a time",
        _story("serviced", service_step=0.6, upkeep=0.0),
    ),
    "F": (
        "vehicles that start after the history",
        _story("newcomers", newcomers=0.35, faults=0.4),
    ),
    "G": (
        "vehicles that are ill from their first day",
        _story("born-ill", newcomers=0.1, born_ill=0.2, abrupt=0.0),
    ),
    "H": (
        "one defect in every vehicle of a type and region",
        _story("defect", cohort_defect=True, faults=0.05),
    ),
    "I": (
        "sensors that stick, shake, shift, drop out or change their unit",
        _story("sensors", sensor_faults=0.5, faults=0.05),
    ),
    "J": (
        "two years without a fault, the second for the test",
        _story("healthy", days=730, season=1.0, upkeep=1.0, **_HEALTHY),
    ),
}
"""What each is about, and its config."""


def scenario(name: str, /, **changes: object) -> SimulationConfig:
    """The config of a scenario ("demo", or "A" to "J"), with changes to its fields.

    Raises UsageError for an unknown scenario or a value that cannot be.

    >>> scenario("D", vehicles=50).train_share
    0.3333333333333333
    """
    if name not in SCENARIOS:
        raise UsageError(f"there is no scenario `{name}`; it is one of {', '.join(SCENARIOS)}")
    try:
        return msgspec.convert({**msgspec.to_builtins(SCENARIOS[name][1]), **changes}, SimulationConfig)
    except (msgspec.ValidationError, ValueError) as error:
        raise UsageError(f"this fleet cannot be simulated: {error}") from error
