"""What vehicles take up, before there are any: the arithmetic of their arrays, in bytes."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from anomaly.engine import layout
from anomaly.engine.layout import Places
from anomaly.engine.saved import VERSION, Idle
from anomaly.telemetry.hash_table import SHORT

CELL, FREE = 16, 4
QUANTILE, TOUCHED, ARM = 4, 4, 2
SLOT, LENGTH = 4, 2
DIGEST = "0" * 64


class Shape(NamedTuple):
    """What a footprint depends on: d signals, blocks of features (1, 4 or 6), models that score, bytes of an id."""

    signals: int
    blocks: int = 1
    models: int = 1
    id_bytes: int = SHORT


class Footprint(NamedTuple):
    """Bytes of `vehicles` in one partition. In memory: `record` in all of a vehicle's, `table` of the hash table.

    On disk: `stored` is one copy of the state of those in memory, `idle` that of those above the capacity.
    """

    vehicles: int
    away: int
    a_vehicle: int
    table: int
    stored: int
    idle: int

    @property
    def memory(self) -> int:
        """Bytes in memory."""
        return self.vehicles * self.a_vehicle + self.table


def footprint(shape: Shape, vehicles: int, capacity: int) -> Footprint:
    """The bytes of `vehicles` of a partition that keeps at most `capacity` in memory."""
    here = min(vehicles, capacity)
    long = shape.id_bytes + 4 if shape.id_bytes > SHORT else 0
    record = Places.of(shape.signals, shape.blocks).record
    own = QUANTILE * shape.models
    evicting = FREE if vehicles > capacity else 0
    stored = record + 2 * SLOT + LENGTH + shape.id_bytes + own
    return Footprint(
        vehicles=here,
        away=vehicles - here,
        a_vehicle=record + CELL + long + own + TOUCHED + ARM + evicting,
        table=4 * table_places(here),
        stored=here * stored,
        idle=(vehicles - here) * (shape.id_bytes + _idle(record, shape.models)),
    )


def cohort_bytes(signals: int) -> int:
    """The bytes that each cohort adds: its histograms."""
    return 4 * layout.PERIODS * signals * (layout.BINS + layout.SIZES)


def table_places(vehicles: int) -> int:
    """The places of a hash table that grew to so many vehicles: it doubles where it is filled to 60 %.

    >>> table_places(50_000), table_places(1_000_000)
    (131072, 2097152)
    """
    places = 1_024
    while vehicles > 0.6 * places:
        places *= 2
    return places


def _idle(record: int, models: int) -> int:
    quantiles = {f"{number:064}": 1.0 for number in range(models)}
    idle = Idle(version=VERSION, frame=DIGEST, record=bytes(record), quantiles=quantiles)
    return len(msgspec.msgpack.encode(idle))
