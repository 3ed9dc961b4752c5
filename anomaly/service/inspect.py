"""What a run knows of one vehicle, now or at a time in the past."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import numpy as np

from anomaly.alerts.text import when
from anomaly.engine.engine import Engine
from anomaly.engine.model import Arm, Model
from anomaly.engine.view import VehicleView
from anomaly.errors import DataError
from anomaly.fleet import Fleet
from anomaly.service.replay import Player, Run, by_partition, stores
from anomaly.service.rollout import Rollouts
from anomaly.service.rows import read_archive
from anomaly.service.stored import StoreReader, partition_of_store
from anomaly.telemetry.records import Alert


class SignalState(msgspec.Struct, frozen=True, kw_only=True):
    """One signal: what is expected of it, in its unit, and the evidence against it, in healthy spreads."""

    name: str
    unit: str
    expected: float
    evidence: float


class ShadowState(msgspec.Struct, frozen=True, kw_only=True):
    """The model that is tried beside the one that acts, with the vehicle's own quantile and threshold under it."""

    model: str
    quantile: float | None
    threshold: float


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A vehicle's state; `quantile` is its own 95 % score under `model`, `warm` how much is its own (0..1)."""

    vehicle: str
    partition: int
    last_ts: int
    readings: int
    warm: float
    regime: int
    model: str
    arm: str
    quantile: float | None
    threshold: float
    episode_start: int | None
    signals: list[SignalState]
    alerts: list[Alert]
    shadow: ShadowState | None = None


def show_vehicle(fleet: Fleet, run: Run, vehicle: str, at: int | None = None) -> Shown:
    """The vehicle as the last checkpoint has it, or after its last reading at or before `at`, from the archive.

    Raises DataError if it was not seen.
    """
    for path in stores(fleet, run):
        found = _now(fleet, run, path, vehicle) if at is None else _then(fleet, run, path, vehicle, at)
        if found is not None:
            return found
    then = "" if at is None else f" at or before {when(at, fleet.fleet.time_unit)}"
    raise DataError(f"no reading of vehicle {vehicle} was scored by group {run.group}{then}")


def _now(fleet: Fleet, run: Run, path: Path, vehicle: str) -> Shown | None:
    store = StoreReader(path)
    control, state, alerts = store.last_control("models"), list(store.state()), store.alerts()
    away = store.idle([vehicle])
    store.close()
    if control is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        rollouts = Rollouts(run.registry, fleet.name, run.folder / "experiments")
        rollout, frame = rollouts.repeat(control.payload, Path(scratch))
        engine = Engine(fleet, frame)
        engine.apply(state)
        view = engine.vehicle(vehicle, away.get(vehicle))
        if view is None:
            return None
        arm = rollout.arms[rollout.assign(vehicle)]
    opened = [msgspec.json.decode(value, type=Alert) for value in alerts.values()]
    own = [alert for alert in opened if alert.subject.get("vehicle") == vehicle]
    return _shown(fleet, partition_of_store(path), view, arm, own)


def _then(fleet: Fleet, run: Run, path: Path, vehicle: str, at: int) -> Shown | None:
    """Replay the archive of the partition up to the vehicle's last reading at or before `at`."""
    partition = partition_of_store(path)
    for number, batch in by_partition(read_archive(run.folder, fleet, run.group), fleet):
        own = [row for row, name in enumerate(batch.vehicles) if name == vehicle and batch.ts[row] <= at]
        if number == partition and own:
            with tempfile.TemporaryDirectory() as scratch:
                player = Player(fleet, run, path, Path(scratch))
                player.play(batch.rows(0, int(np.max(own)) + 1))
                view, arm = player.vehicle(vehicle)
            return None if view is None else _shown(fleet, partition, view, arm, [])
    return None


def _shown(fleet: Fleet, partition: int, view: VehicleView, arm: Arm, alerts: list[Alert]) -> Shown:
    quantile, threshold = _own(view, arm.model)
    tried = None
    if arm.shadow is not None:
        own = _own(view, arm.shadow)
        tried = ShadowState(model=arm.shadow.name, quantile=own[0], threshold=own[1])
    return Shown(
        vehicle=view.vehicle,
        partition=partition,
        last_ts=view.last_ts,
        readings=view.readings,
        warm=view.warm,
        regime=view.regime,
        model=arm.model.name,
        arm=arm.name,
        quantile=quantile,
        threshold=threshold,
        episode_start=view.episode_start,
        signals=[
            SignalState(name=name, unit=signal.unit, expected=expected, evidence=evidence)
            for (name, signal), expected, evidence in zip(
                fleet.signals.items(), view.expected, view.evidence, strict=True
            )
        ],
        alerts=alerts,
        shadow=tried,
    )


def _own(view: VehicleView, model: Model) -> tuple[float | None, float]:
    """The vehicle's own quantile under a model, None where it has none, and the threshold that this gives."""
    quantile = view.quantiles.get(model.digest)
    ratio = (quantile or model.q_fleet) / model.q_fleet
    factor = min(max(ratio, model.policy.low), model.policy.high)
    return quantile, model.k * factor if view.warm == 1.0 else model.k
