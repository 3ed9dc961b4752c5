"""A fleet whose cohorts are spread over partitions, on an embedded log, and what one engine alone makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm
from anomaly.feedback.decisions import decision_table
from anomaly.registry.store import Registry
from anomaly.stream.ports import Record
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.encode import encode_readings
from tests.service.rig import DAY_MS, FLEET, FRAME, Rig, make_rig, publish

COLUMNS = ("vehicle", "ts", "score", "threshold", "level", "alarm", "kind", "episode")
PERIOD_S, STEP_S, VEHICLES = 3_600, 600, 66
TEXT = FLEET.replace("[baseline]", '[context]\ncohort = ["type"]\nperiod = "1h"\nmax_wait = "30s"\n[baseline]').replace(
    "[alerts]", '[quality]\ngrace = "10m"\n[alerts]'
)


def cohort_rig(folder: Path, partitions: int = 3, max_wait: str = "30s", told: bool = True) -> Rig:
    """A registry with one model whose frame has cohorts, and empty topics; not `told`: without the topic of cohorts."""
    registry = Registry(folder / "models")
    publish_with_cohorts(registry)
    text = TEXT.replace("partitions = 2", f"partitions = {partitions}").replace('"30s"', f'"{max_wait}"')
    rig = make_rig(folder, registry.folder, text)
    if not told:
        return rig
    log = rig.log()
    log.create_topics({rig.fleet.topic("cohorts"): 1}, DAY_MS, compacted={rig.fleet.topic("cohorts")})
    log.close()
    return rig


def publish_with_cohorts(registry: Registry) -> None:
    """A champion whose frame has cohorts by type, an hour a period."""
    fields = {name: getattr(FRAME, name) for name in FRAME.__struct_fields__}
    publish(registry, frame=Frame(**{**fields, "cohort": ("type",), "period": PERIOD_S}))
    registry.set_alias("bus", "champion", 1, "the first")


def warm_days(steps: int = 90, seed: int = 0) -> Batch:
    """Two cohorts of 33 vehicles; the first has a season that comes slowly, one vehicle of it a fault."""
    rng = np.random.default_rng(seed)
    count = VEHICLES * steps
    who, step = np.arange(count) % VEHICLES, np.arange(count) // VEHICLES
    values = np.array(FRAME.mean[0]) + np.array(FRAME.sd[0]) * rng.normal(0, 0.3, (count, 3))
    values[:, 0] += np.where(who % 2 == 0, np.clip(step - 20, 0, 50) * 0.06, 0.0)
    values[:, 1] += np.where((who == 4) & (step > 60), 8.0, 0.0)
    ts = 1_700_000_000 // PERIOD_S * PERIOD_S + STEP_S * step + who
    context = {"type": [f"t{n % 2}" for n in who], "region": [None] * count}
    return Batch.of([f"v{n}" for n in who], ts, values.astype(np.float32), context, np.arange(count))


def put(rig: Rig, batch: Batch) -> None:
    """Readings onto the log."""
    messages = encode_readings(batch, rig.fleet)
    rig.send("telemetry", [Record(who.encode(), value) for who, value in zip(batch.vehicles, messages, strict=True)])


def alone(rig: Rig, batch: Batch) -> list[dict[str, Any]]:
    """The decisions of one engine that sees everything."""
    loaded = rig.registry.load(rig.registry.resolve("bus@champion"))
    engine = Engine(rig.fleet, Frame.from_json(loaded.frame))
    arms = [Arm("champion", 1.0, loaded.engine_model())]
    engine.use(arms, lambda _vehicle: 0)
    return ordered(decision_table(engine.decide(batch), batch, arms, rig.fleet, None))


def ordered(table: Any) -> list[dict[str, Any]]:
    """The columns that must be equal, in order of vehicle and time."""
    rows = table.select(COLUMNS).to_pylist()
    return sorted(rows, key=lambda row: (row["vehicle"], row["ts"]))


def told(rig: Rig) -> list[tuple[int, int]]:
    """(partition, period) of all partials on the topic."""
    values = [msgspec.json.decode(value) for _, _, value in rig.messages("cohorts")]
    return [(value["partition"], value["period"]) for value in values]
