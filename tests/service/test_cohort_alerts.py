"""Alerts about cohorts over partitions: however many there are, one tells, and it tells what one engine would."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from anomaly.alerts.book import AlertBook
from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm
from anomaly.registry.manifest import Checks
from anomaly.registry.store import Registry
from anomaly.service.metrics import Metrics
from anomaly.service.scorer import Options, Scorer
from anomaly.telemetry.batch import Batch
from tests.detectors.onnx_files import distance
from tests.registry.stock import manifest
from tests.service.child import score
from tests.service.cohort_rig import PERIOD_S, STEP_S, cohort_rig, put
from tests.service.rig import FRAME, Rig

COHORTS, VEHICLES, STEPS = 4, 48, 80


def rig_of(folder: Path, partitions: int) -> Rig:
    """A champion that compares cohorts, beside empty topics."""
    rig = cohort_rig(folder, partitions)
    fields = {name: getattr(FRAME, name) for name in FRAME.__struct_fields__}
    frame = Frame(**{**fields, "cohort": ("type",), "period": PERIOD_S})
    files = {"model.onnx": distance(scale=1.0, contribution=True), "card.md": b"# Bus\n"}
    checks = Checks(cohort=4.0, cohort_spread=(0.1, 0.1, 0.1))
    registry = Registry(folder / "models")
    number = registry.publish("bus", files, manifest(k=9.0, checks=checks), frame.to_json())
    registry.set_alias("bus", "champion", number, "it compares cohorts")
    return rig


def defect(seed: int = 0) -> Batch:
    """Four cohorts of 12 vehicles, of which the third moves away, and comes back."""
    rng = np.random.default_rng(seed)
    count = VEHICLES * STEPS
    who, step = np.arange(count) % VEHICLES, np.arange(count) // VEHICLES
    values = np.array(FRAME.mean[0]) + np.array(FRAME.sd[0]) * rng.normal(0, 0.3, (count, 3))
    values[:, 1] += np.where((who % COHORTS == 2) & (step < 36), np.clip(step - 12, 0, 20) * 0.3, 0.0)
    ts = 1_700_000_000 // PERIOD_S * PERIOD_S + STEP_S * step + who
    context = {"type": [f"t{n % COHORTS}" for n in who], "region": [None] * count}
    return Batch.of([f"v{n}" for n in who], ts, values.astype(np.float32), context, np.arange(count))


def alone(rig: Rig, batch: Batch) -> list[bytes]:
    """The alerts of one engine that sees everything."""
    loaded = rig.registry.load(rig.registry.resolve("bus@champion"))
    engine, arms = Engine(rig.fleet, Frame.from_json(loaded.frame)), [Arm("champion", 1.0, loaded.engine_model())]
    engine.use(arms, lambda _vehicle: 0)
    alerts = AlertBook().apply(engine.decide(batch), batch, rig.fleet, arms)
    return [msgspec.json.encode(alert) for alert in alerts if alert.kind == "cohort"]


def sent(rig: Rig) -> list[bytes]:
    """All alerts about cohorts on the topic."""
    return [value for _, _, value in rig.messages("alerts") if b'"kind":"cohort"' in value]


@pytest.mark.parametrize("partitions", [1, 3])
def test_one_alert_whatever_the_number_of_partitions(tmp_path: Path, partitions: int) -> None:
    """One engine and three partitions write the same bytes, each once."""
    rig, batch = rig_of(tmp_path, partitions), defect()
    put(rig, batch)
    log = rig.log()
    Scorer(rig.fleet, log, rig.registry, Options(rig.folder / "run", "g", stop_at_end=True), Metrics()).run()
    log.close()
    expected = alone(rig, batch)
    assert sent(rig) == expected
    assert {msgspec.json.decode(value)["subject"]["cohort"] for value in expected} == {"t2"}
    assert [msgspec.json.decode(value)["state"] for value in (expected[0], expected[-1])] == ["open", "closed"]


def test_a_kill_and_a_restart_tell_the_same(tmp_path: Path) -> None:
    """Killed while the alert is open, then started again: what the readers keep is what one engine says."""
    rig, batch = rig_of(tmp_path, 3), defect()
    put(rig, batch)
    assert score(rig, rig.folder / "run", "outbox.after_send:9") == -9
    assert score(rig, rig.folder / "run") == 0
    assert list(dict.fromkeys(sent(rig))) == alone(rig, batch)
