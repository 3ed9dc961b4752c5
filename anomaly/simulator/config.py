"""What a simulated fleet is made of: everything that decides its bytes, together with the seed."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from anomaly.duration import duration_ms
from anomaly.fleet import Name, Share

DAY_MS = 86_400_000
Kind = Literal[
    "coolant_loss",
    "battery_fade",
    "tyre_leak",
    "alternator_wear",
    "injector_drift",
    "oil_pump_wear",
    "brake_wear",
    "misfire",
    "hose_burst",
    "breakdown",
]
Scale = Annotated[float, Meta(ge=0.0, le=20.0)]


def whole_seconds(ms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Cut to whole seconds, still in ms: what a fleet's clocks resolve."""
    return (ms / 1_000.0).astype(np.int64) * 1_000


class SimulationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fleet to be simulated: its size and span, how vehicles fail, what else happens to them, how tidy its data are.

    `every` is the time between a vehicle's readings ("1s" to "1d"). The first `train_share` of the span is history to
    train on, the rest is for the test; 0: there is no such cut.

    Faults: of all vehicles `history_faults` fail once within the history and `faults` once after it, of one of the
    gradual `history_kinds` and `kinds` (empty: every gradual one). Of the failures `abrupt` give little or no warning:
    `hose_burst` some hours, `breakdown` none. `strength` scales what faults do to signals, `duration` how long they
    take. `cohort_defect`: after the history every vehicle of one type and region gets the same fault.

    Vehicles: `spread` scales how unlike each other they are. Of all vehicles `newcomers` start after the history, and
    `born_ill` of all do so with a fault that is already there.

    Nuisances, which are no faults: `season` scales the year's weather and what fuel follows it, `upkeep` the shares of
    vehicles with a new sensor, new tyres, another route, a long pause or a wrong clock; of all vehicles `service_step`
    come back from a service after the history with signals moved. `firmware`: after the history one type gets a new
    version that moves two signals. Of all vehicles `sensor_faults` have one sensor that fails after the history.
    `dropout` is the share of values that go missing, `duplicates` and `late` the shares of readings that come twice or
    out of their order.
    """

    name: Name = "simulated"
    vehicles: Annotated[int, Meta(ge=1, le=1_000_000)] = 240
    days: Annotated[int, Meta(ge=1, le=3_660)] = 120
    every: str = "6h"
    start: date = date(2025, 1, 1)
    train_share: Annotated[float, Meta(ge=0.0, le=0.95)] = 0.0
    faults: Share = 0.26
    history_faults: Share = 0.0
    kinds: tuple[Kind, ...] = ()
    history_kinds: tuple[Kind, ...] = ()
    abrupt: Share = 0.15
    strength: Scale = 1.0
    duration: Annotated[float, Meta(gt=0.0, le=20.0)] = 1.0
    cohort_defect: bool = False
    spread: Scale = 1.0
    newcomers: Share = 0.0
    born_ill: Share = 0.0
    season: Scale = 1.0
    upkeep: Scale = 1.0
    service_step: Share = 0.0
    firmware: bool = False
    sensor_faults: Share = 0.0
    dropout: Share = 0.004
    duplicates: Share = 0.002
    late: Share = 0.002

    def __post_init__(self) -> None:
        step_ms = duration_ms(self.every)
        if not 1_000 <= step_ms <= DAY_MS or step_ms % 1_000:
            raise ValueError(f"every `{self.every}` is not whole seconds between 1s and 1d")
        if self.born_ill + self.newcomers > 1.0:
            raise ValueError("newcomers and born_ill are more than all vehicles together")
        if self.train_share == 0.0 and self._needs_history:
            raise ValueError(f"{', '.join(self._needs_history)}: comes after the history, so train_share must not be 0")

    @property
    def _needs_history(self) -> list[str]:
        names = (
            "history_faults",
            "cohort_defect",
            "newcomers",
            "born_ill",
            "service_step",
            "firmware",
            "sensor_faults",
        )
        return [name for name in names if getattr(self, name)]

    @property
    def step_ms(self) -> int:
        """Milliseconds between a vehicle's readings."""
        return duration_ms(self.every)

    @property
    def start_ms(self) -> int:
        """The first midnight (UTC) of the span, in ms since 1970."""
        return (self.start - date(1970, 1, 1)).days * DAY_MS

    @property
    def end_ms(self) -> int:
        """The midnight that ends the span."""
        return self.start_ms + self.days * DAY_MS

    @property
    def train_until_ms(self) -> int:
        """The midnight that ends the history; the start of the span where there is none."""
        return self.start_ms + round(self.train_share * self.days) * DAY_MS

    @property
    def steps(self) -> int:
        """Readings of a vehicle that is never away."""
        return max(1, self.days * DAY_MS // self.step_ms)


class SimulationFile(SimulationConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`simulation.toml`: a simulated fleet's config and seed, as `write` leaves them beside the data."""

    seed: int

    @property
    def config(self) -> SimulationConfig:
        """The same without the seed."""
        return SimulationConfig(**{name: getattr(self, name) for name in SimulationConfig.__struct_fields__})
