"""One vehicle's state for people."""

from __future__ import annotations

from typing import NamedTuple

from anomaly.engine import layout
from anomaly.engine.frame import Frame
from anomaly.engine.state import VehicleState


class VehicleView(NamedTuple):
    """One vehicle's state for people: means and evidence in its signals' own order, evidence in healthy spreads."""

    vehicle: str
    last_ts: int
    readings: int
    warm: float
    regime: int
    expected: list[float]
    evidence: list[float]
    quantiles: dict[str, float]
    episode_start: int | None


def view(vehicle: str, slot: int, vehicles: VehicleState, frame: Frame) -> VehicleView:
    """The vehicle in a slot, as it is."""
    state, at, signals = vehicles.arrays, vehicles.arrays.at, len(frame.signals)
    known = frame.arrays()
    count = int(state.i4[slot, layout.COUNT])
    warm = min(1.0, count / frame.burn_in)
    regime = int(state.u1[slot, layout.REGIME])
    usual = state.f4[slot, at.baseline : at.baseline + signals] if warm == 1.0 else known.prior
    expected = known.mean[regime] + usual / known.inv_sd[regime]
    is_open = state.i4[slot, layout.ALARMS] > 0
    return VehicleView(
        vehicle=vehicle,
        last_ts=int(state.i8[slot, layout.LAST_TS]),
        readings=count,
        warm=warm,
        regime=regime,
        expected=expected.tolist(),
        evidence=state.f4[slot, at.evidence : at.evidence + signals].tolist(),
        quantiles={key: float(vehicles.quantiles[row, slot]) for row, key in enumerate(vehicles.q_fleet)},
        episode_start=int(state.i8[slot, layout.START]) if is_open else None,
    )
