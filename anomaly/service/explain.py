"""Why a vehicle was scored as it was, at its last reading or at a time in the past."""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.engine.outcome import Kind, Outcome
from anomaly.engine.view import VehicleView
from anomaly.fleet import Fleet
from anomaly.service.replay import Asked, Player, Run
from anomaly.service.stored import partition_of_store
from anomaly.telemetry.batch import Batch

SHOWN = 400
"""Readings of the past that are told."""


class SignalPart(msgspec.Struct, frozen=True, kw_only=True):
    """One signal: its share of the score, and what it should have been: the sum of what is usual of the fleet in this
    regime, of what the vehicle's cohort adds now, and of what is its own; `evidence` in healthy spreads."""

    name: str
    unit: str
    share: float
    actual: float | None
    expected: float
    fleet: float
    cohort: float
    own: float
    evidence: float


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One reading: its level (1.0 is the line) and the kind of alarm, empty where there was none."""

    ts: int
    level: float
    kind: str


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """A decision with all that led to it. `warm` 0..1 is how much of the baseline is the vehicle's own, `missing` how
    many readings it lacks to be warm; `onset` is when the score last rose above what is usual for the vehicle, null
    where it is not above it; `unconfirmed` fault episodes that ended without a confirmed fault raise the vehicle's
    threshold; `past` are its readings up to this one, oldest first."""

    vehicle: str
    ts: int
    model: str
    arm: str
    regime: int
    score: float
    threshold: float
    level: float
    kind: str
    warm: float
    missing: int
    onset: int | None
    in_maintenance: bool
    fault_confirmed: bool
    unconfirmed: int
    shift_since: int | None
    signals: list[SignalPart]
    past: list[Moment]


class _Decided(NamedTuple):
    """One reading of the vehicle: its row among the decisions of a part of the stream."""

    outcome: Outcome
    batch: Batch
    row: int


def explain_vehicle(fleet: Fleet, run: Run, vehicle: str, at: int | None = None) -> Explained:
    """The vehicle's last decision, or the last one at or before `at`: the archive is played again up to it.

    Raises DataError if there is none.
    """
    asked = Asked(fleet, run, vehicle, at)
    return asked.find(lambda path: _of_partition(asked, path))


def _of_partition(asked: Asked, path: Path) -> Explained | None:
    batch = asked.readings(partition_of_store(path))
    if batch is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        player = Player(asked.fleet, asked.run, path, Path(scratch))
        decided = deque((_Decided(*found) for found in player.follow(batch, asked.vehicle)), SHOWN)
        return _explained(asked.fleet, player, asked.vehicle, list(decided))


def _explained(fleet: Fleet, player: Player, vehicle: str, decided: list[_Decided]) -> Explained | None:
    view, arm = player.vehicle(vehicle)
    if view is None or not decided:
        return None
    past = [_moment(each) for each in decided]
    outcome, batch, place = decided[-1]
    decisions = outcome.decisions
    threshold = float(decisions.threshold[place])
    usual = view.quantiles.get(arm.model.digest, arm.model.q_fleet) / threshold
    return Explained(
        vehicle=view.vehicle,
        ts=past[-1].ts,
        model=arm.model.name,
        arm=arm.name,
        regime=view.regime,
        score=float(decisions.score[place]),
        threshold=threshold,
        level=past[-1].level,
        kind=past[-1].kind,
        warm=view.warm,
        missing=max(0, fleet.baseline.burn_in - view.readings),
        onset=_onset(past, usual),
        in_maintenance=view.in_maintenance,
        fault_confirmed=view.fault_confirmed,
        unconfirmed=view.unconfirmed if arm.model.policy.raised > 1.0 else 0,
        shift_since=view.shift_start,
        signals=_parts(fleet, view, player.shares(vehicle), batch.values[int(decisions.row[place])]),
        past=past,
    )


def _onset(past: list[Moment], usual: float) -> int | None:
    """Since when the level has been above the vehicle's usual one without a break."""
    onset = None
    for moment in reversed(past):
        if moment.level <= usual:
            break
        onset = moment.ts
    return onset


def _parts(fleet: Fleet, view: VehicleView, shares: list[float], actual: NDArray[np.float32]) -> list[SignalPart]:
    """All signals, the largest share first."""
    parts = [
        SignalPart(
            name=name,
            unit=signal.unit,
            share=round(shares[j], 6),
            actual=float(actual[j]) if np.isfinite(actual[j]) else None,
            expected=view.expected[j],
            fleet=view.fleet[j],
            cohort=view.cohort[j],
            own=view.own[j],
            evidence=view.evidence[j],
        )
        for j, (name, signal) in enumerate(fleet.signals.items())
    ]
    return sorted(parts, key=lambda part: -part.share)


def _moment(decided: _Decided) -> Moment:
    decisions = decided.outcome.decisions
    row = int(decisions.row[decided.row])
    kind = Kind(int(decisions.kind[decided.row])).label
    return Moment(ts=int(decided.batch.ts[row]), level=float(decisions.level[decided.row]), kind=kind)
