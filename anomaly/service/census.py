"""How many vehicles a run has and what their state takes up, and what so many would take up."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from anomaly.engine.engine import Engine
from anomaly.engine.footprint import Footprint, Shape, cohort_bytes, footprint
from anomaly.engine.frame import BLOCKS
from anomaly.fleet import Fleet
from anomaly.service.replay import Run, stores
from anomaly.service.rollout import Rollouts
from anomaly.service.stored import StoreReader, partition_of_store

COPIES = 3
"""A store holds the state at most so often: as pages, and as deltas of two times their size before they are dropped."""


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """One partition, or all (`partition` None), as the last checkpoint has it; all but counts in bytes.

    `memory` is that of the state in a scorer, `bytes_a_vehicle` its share of each vehicle in memory; `pages`, `deltas`,
    `idle_state` and `rows` (of logs, in no file yet) are what the store holds, `file` what it takes up on the disk.
    """

    partition: int | None
    vehicles: int
    idle: int
    bytes_a_vehicle: float
    memory: int
    pages: int
    deltas: int
    idle_state: int
    rows: int
    file: int


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What `vehicles` take up in one scorer process, in bytes.

    `memory` is the process before it has any (`base`) and the state of those in memory, without what is kept between
    two checkpoints, which depends on how much then arrives. `disk` is the state in the stores after a first
    checkpoint, one copy; it never is more than `disk_most`. Each cohort adds `a_cohort` to memory and to disk.
    """

    vehicles: int
    in_memory: int
    bytes_a_vehicle: float
    base: int
    state: int
    memory: int
    disk: int
    disk_most: int
    a_cohort: int


def stats(fleet: Fleet, run: Run) -> list[Stats]:
    """Every partition of a run, then all of them. StateError if there is no run."""
    found = [_stats(fleet, run, path) for path in stores(fleet, run)]
    return [*found, _total(found)]


def _stats(fleet: Fleet, run: Run, path: Path) -> Stats:
    store = StoreReader(path)
    try:
        control, blobs, sizes = store.last_control("models"), list(store.state()), store.sizes()
        idle, idle_state = store.idle_sizes()
    finally:
        store.close()
    assert control is not None, "`stores` answers those with one"
    with tempfile.TemporaryDirectory() as scratch:
        rollouts = Rollouts(run.registry, fleet.name, run.folder / "experiments")
        rollout, frame = rollouts.repeat(control.payload, Path(scratch))
    engine = Engine(fleet, frame)
    engine.apply(blobs)
    names = engine.vehicles
    count = len(names)
    mean = round(float((names.stop - names.start).mean())) if count else 1
    tried = {arm.shadow.digest for arm in rollout.arms if arm.shadow is not None}
    models = len({arm.model.digest for arm in rollout.arms} | tried) + len(tried)  # a shadow has two numbers a vehicle
    used = footprint(Shape(len(frame.signals), frame.blocks, models, mean), count, fleet.state.capacity)
    files = [path, path.with_name(f"{path.name}-wal")]
    return Stats(
        partition=partition_of_store(path),
        vehicles=count,
        idle=idle,
        bytes_a_vehicle=used.memory / max(count, 1),
        memory=used.memory,
        pages=sizes.pages,
        deltas=sizes.deltas,
        idle_state=idle_state,
        rows=sizes.rows,
        file=sum(file.stat().st_size for file in files if file.exists()),
    )


def _total(found: Sequence[Stats]) -> Stats:
    names = ("vehicles", "idle", "memory", "pages", "deltas", "idle_state", "rows", "file")
    sums = {name: sum(getattr(part, name) for part in found) for name in names}
    return Stats(partition=None, bytes_a_vehicle=sums["memory"] / max(sums["vehicles"], 1), **sums)


def forecast(fleet: Fleet, vehicles: int, base: int, id_bytes: int) -> Forecast:
    """What `vehicles`, spread evenly over the fleet's partitions, take up in one process that has `base` bytes."""
    shape = Shape(len(fleet.signals), len(BLOCKS[fleet.frame_features]), id_bytes=id_bytes)
    parts = min(fleet.stream.partitions, vehicles)
    each, more = divmod(vehicles, parts)
    used = [footprint(shape, each + (part < more), fleet.state.capacity) for part in range(parts)]
    state, here = sum(part.memory for part in used), sum(part.vehicles for part in used)
    cohort = cohort_bytes(shape.signals) if fleet.context.cohort is not None else 0
    return Forecast(
        vehicles=vehicles,
        in_memory=here,
        bytes_a_vehicle=state / here,
        base=base,
        state=state,
        memory=base + state,
        disk=sum(map(_disk, used)),
        disk_most=sum(COPIES * part.stored + part.idle for part in used),
        a_cohort=cohort,
    )


def _disk(part: Footprint) -> int:
    return part.stored + part.idle


def base_bytes() -> int:
    """The resident memory of this process once it has loaded and compiled what a scorer needs."""
    import resource

    import pyarrow  # noqa: F401

    from anomaly.engine.warm import warm
    from anomaly.service import run  # noqa: F401

    warm()
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else 1_024 * highest
