"""Where the loop stands, for people and for machines."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from anomaly.fleet import Fleet
from training.loop.file import LoopFile
from training.loop.machine import Facts, Passage, Store


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The cycle under way, whether it waits for a person, and the last steps, oldest first."""

    cycle: int
    state: str
    since: int
    reason: str
    waits_for_person: bool
    facts: Facts
    trail: list[Passage]


def status_of(store: Store, file: LoopFile, last: int) -> Status | None:
    """What the store says now; None: the loop has not begun."""
    now = store.under_way()
    return now and Status(
        cycle=now.id,
        state=now.state,
        since=now.since,
        reason=now.reason,
        waits_for_person=now.state in file.wait_for_person and now.approved != now.state,
        facts=now.facts,
        trail=store.trail()[-last:],
    )


def lines(found: Status, fleet: Fleet) -> list[str]:
    """The status in sentences."""
    wait = f"; waits for `anomaly loop approve {found.state}`" if found.waits_for_person else ""
    told = [f"cycle {found.cycle}: {found.state} since {_time(found.since, fleet)}{wait}", f"  why: {found.reason}"]
    for passage in found.trail:
        where = f"{passage.left} -> {passage.entered}"
        told.append(f"  {_time(passage.at, fleet)}  cycle {passage.cycle}  {where}: {passage.reason}")
    return told


def _time(ts: int, fleet: Fleet) -> str:
    unit = fleet.fleet.time_unit
    if unit == "cycles":
        return f"cycle {ts}"
    return f"{datetime.fromtimestamp(ts / (1_000 if unit == 'ms' else 1), UTC):%Y-%m-%d %H:%M}"
