"""What a run knows of one vehicle, now or at a time in the past."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from anomaly.engine.engine import Engine
from anomaly.engine.model import Arm, Model
from anomaly.engine.view import VehicleView
from anomaly.fleet import Fleet
from anomaly.service.replay import Asked, Player, Run
from anomaly.service.rollout import Rollouts
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
    asked = Asked(fleet, run, vehicle, at)
    return asked.find(lambda path: _now(asked, path) if at is None else _then(asked, path))


def _now(asked: Asked, path: Path) -> Shown | None:
    fleet, run, vehicle, _ = asked
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


def _then(asked: Asked, path: Path) -> Shown | None:
    """Replay the archive of the partition up to the vehicle's last reading then."""
    partition = partition_of_store(path)
    batch = asked.readings(partition)
    if batch is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        player = Player(asked.fleet, asked.run, path, Path(scratch))
        player.play(batch)
        view, arm = player.vehicle(asked.vehicle)
    return None if view is None else _shown(asked.fleet, partition, view, arm, [])


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
    return quantile, model.k * model.policy.factor(ratio, view.unconfirmed) if view.warm == 1.0 else model.k
