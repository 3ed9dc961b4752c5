"""What a simulated fleet is made of: everything that decides its bytes, together with the seed."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from anomaly.fleet import Name, Share, duration_ms

MINUTE_MS = 60_000
DAY_MS = 86_400_000


def whole_seconds(ms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Cut to whole seconds, still in ms: what a fleet's clocks resolve."""
    return (ms / 1_000.0).astype(np.int64) * 1_000


class SimulationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fleet to be simulated: its size and span, how many vehicles fail, and how untidy its data are.

    `step` is the time between readings of a vehicle ("10m" to "1d"). Of all vehicles, `fault_share` get one fault
    within the span; `abrupt_share` of those give no warning. `dropout` is the share of values that go missing,
    `duplicates` and `late` the shares of readings that come twice or out of their order.
    """

    name: Name = "simulated"
    vehicles: Annotated[int, Meta(ge=1, le=1_000_000)] = 240
    days: Annotated[int, Meta(ge=1, le=3_660)] = 120
    step: str = "6h"
    start: date = date(2025, 1, 1)
    fault_share: Share = 0.26
    abrupt_share: Share = 0.15
    dropout: Share = 0.004
    duplicates: Share = 0.002
    late: Share = 0.002

    def __post_init__(self) -> None:
        if not MINUTE_MS <= duration_ms(self.step) <= DAY_MS:
            raise ValueError(f"step `{self.step}` is not between a minute (1m) and a day (1d)")

    @property
    def step_ms(self) -> int:
        """Milliseconds between a vehicle's readings."""
        return duration_ms(self.step)

    @property
    def start_ms(self) -> int:
        """The first midnight (UTC) of the span, in ms since 1970."""
        return (self.start - date(1970, 1, 1)).days * DAY_MS

    @property
    def end_ms(self) -> int:
        """The midnight that ends the span."""
        return self.start_ms + self.days * DAY_MS

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
