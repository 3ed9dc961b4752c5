"""The topics of a fleet: their names, and how each is laid out."""

from __future__ import annotations

from typing import NamedTuple

from anomaly.duration import duration_ms
from anomaly.fleet import Fleet
from anomaly.stream.ports import Log

FOR_EVER = -1


class Layout(NamedTuple):
    """How a topic is made; `retention_ms` FOR_EVER keeps everything, `compacted` the last message of each key."""

    name: str
    partitions: int
    retention_ms: int
    compacted: bool = False


def layouts(fleet: Fleet) -> list[Layout]:
    """All topics of `fleet`. Events and labels are few, and a later training needs them all: they are kept."""
    retention_ms = duration_ms(fleet.stream.retention)
    return [
        Layout(fleet.topic("telemetry"), fleet.stream.partitions, retention_ms),
        Layout(fleet.topic("vehicle-events"), 1, FOR_EVER),
        Layout(fleet.topic("labels"), 1, FOR_EVER),
        Layout(fleet.topic("cohorts"), 1, FOR_EVER, compacted=True),
        Layout(fleet.topic("alerts"), 1, retention_ms),
        Layout(fleet.topic("decisions"), 1, retention_ms),
        Layout(fleet.topic("dead-letters"), 1, retention_ms),
    ]


def create_topics(log: Log, fleet: Fleet) -> list[str]:
    """Create those of the fleet's topics that are missing; answers their names."""
    made = []
    for layout in layouts(fleet):
        compacted = {layout.name} if layout.compacted else set()
        made += log.create_topics(
            {layout.name: layout.partitions}, layout.retention_ms, compacted, fleet.stream.replication
        )
    return made
