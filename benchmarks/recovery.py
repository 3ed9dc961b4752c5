"""Twenty SIGKILLs of scorers on a real Kafka: what differs from the backtest, and how long a takeover takes."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import msgspec

from anomaly.errors import StateError
from tests.integration.turbofan import Member, World, differences, make_world, until
from tests.kafka.broker import broker, unavailable

KILLS = 20
ROOT = Path(__file__).resolve().parents[1]


class Recovery(msgspec.Struct):
    """What the kills did: columns that differ (none is right), alerts by id and how many came twice, and the time from
    a kill until readings that came after it were decided, a median in seconds of wall clock."""

    kills: int
    decisions: int
    differing: list[str]
    alerts: int
    repeated_alerts: int
    recovery_s: float


def run(_worlds: object) -> list[str]:
    """A line for each figure, or why there is none."""
    data = Path(os.environ.get("ANOMALY_TEST_DATA", ROOT.parent / "shared" / "data")) / "cmapss/train_FD001.parquet"
    if reason := unavailable() or (None if data.exists() else f"no real data at {data}"):
        return [reason]
    folder = Path(tempfile.mkdtemp(prefix="anomaly-bench-"))
    try:
        with broker() as bootstrap:
            found = _kill(make_world(folder, bootstrap, data))
    finally:
        shutil.rmtree(folder)
    return [f"{name}: {getattr(found, name)}" for name in found.__struct_fields__]


def _kill(world: World) -> Recovery:
    members, seconds = [Member(world, "a"), Member(world, "b")], []
    for part in range(KILLS):
        victim = part % 2
        if part:
            members[victim].kill()
            members[victim] = Member(world, "ab"[victim])
        started_s = time.monotonic()
        rows = world.produce(part / KILLS, (part + 1) / KILLS)
        until(lambda rows=rows: _scored(world) >= rows, f"part {part}")  # type: ignore[misc]
        seconds.append(time.monotonic() - started_s)
    members[0].kill()
    members[0] = Member(world, "a")
    for member in members:
        member.stop()
    alerts = [msgspec.json.decode(value) for value in world.messages("alerts")]
    states = [(alert["id"], alert["state"], alert["level"]) for alert in alerts]
    found = world.decisions()
    return Recovery(
        kills=KILLS,
        decisions=len(found),
        differing=differences(world, found),
        alerts=len({alert["id"] for alert in alerts}),
        repeated_alerts=len(states) - len(set(states)),
        recovery_s=round(median(seconds[1:]), 2),
    )


def _scored(world: World) -> int:
    try:
        return len(world.decisions()) if (world.run / "state").exists() else 0
    except StateError:  # a store that is being made at this moment
        return 0
