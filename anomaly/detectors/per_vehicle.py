"""One River anomaly detector for each vehicle, for backtests and comparisons."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from anomaly.errors import UsageError


class PerVehicle:
    """A clone of `model`, any River anomaly detector, filter or pipeline of them, for every vehicle that learned.

    Memory is bounded: beyond `max_vehicles` the vehicle that was longest not used is dropped, counted in
    `dropped`, and starts anew when it comes back.

    >>> from river.anomaly import HalfSpaceTrees
    >>> detector = PerVehicle(HalfSpaceTrees(seed=1), max_vehicles=2)
    >>> for vehicle in "abc":
    ...     detector.learn_one(vehicle, {"slip": 0.2})
    >>> len(detector), detector.dropped
    (2, 1)
    """

    def __init__(self, model: Any, max_vehicles: int = 10_000) -> None:
        if max_vehicles < 1:
            raise UsageError(f"max_vehicles is {max_vehicles}; at least 1 is needed")
        self._model = model.clone()
        self._max_vehicles = max_vehicles
        self._models: OrderedDict[str, Any] = OrderedDict()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._models)

    def score_one(self, vehicle: str, x: Mapping[str, float]) -> float:
        """The score of `x` by the vehicle's own detector; a vehicle that never learned is scored by a fresh one."""
        if vehicle in self._models:
            self._models.move_to_end(vehicle)
        return float(self._models.get(vehicle, self._model).score_one(dict(x)))

    def learn_one(self, vehicle: str, x: Mapping[str, float]) -> None:
        """Let the vehicle's own detector learn from `x`."""
        if vehicle not in self._models:
            self._models[vehicle] = self._model.clone()
        self._models.move_to_end(vehicle)
        self._models[vehicle].learn_one(dict(x))
        if len(self._models) > self._max_vehicles:
            self._models.popitem(last=False)
            self.dropped += 1
