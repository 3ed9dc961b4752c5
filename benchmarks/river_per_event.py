"""The peer: the same work by River, one event after the other, in the fastest honest way."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from river import stats

from anomaly.engine.frame import Frame
from anomaly.engine.model import Model
from anomaly.thresholds.adaptive import AdaptiveThreshold


class _Reading(msgspec.Struct, gc=False):
    vehicle: str
    ts: int
    signals: dict[str, float]


class _Vehicle:
    """River's statistics of one vehicle: burn-in means, then exponential means of the deviations."""

    __slots__ = ("baseline", "count", "evidence", "last_ts", "threshold")

    def __init__(self, signals: int, model: Model, weight: float) -> None:
        self.count = 0
        self.last_ts = -1
        self.baseline = [stats.Mean() for _ in range(signals)]
        self.evidence = [stats.EWMean(fading_factor=weight) for _ in range(signals)]
        self.threshold = AdaptiveThreshold(None, model.k, model.q_fleet, model.policy)


class RiverPerEvent:
    """Decode, regime, baseline, evidence, score and threshold of one message at a time."""

    def __init__(self, frame: Frame, model: Model) -> None:
        self._frame, self._model = frame, model
        self._arrays = frame.arrays()
        self._vehicles: dict[str, _Vehicle] = {}
        self._decode = msgspec.json.Decoder(_Reading).decode
        self._features = np.zeros((1, frame.width), np.float32)

    def run(self, messages: Sequence[bytes]) -> int:
        """Answers how many alarmed."""
        return sum(map(self._one, messages))

    def _one(self, message: bytes) -> bool:
        reading = self._decode(message)
        arrays, d = self._arrays, len(self._frame.signals)
        vehicle = self._vehicles.get(reading.vehicle)
        if vehicle is None:
            vehicle = self._vehicles[reading.vehicle] = _Vehicle(d, self._model, 1 / self._frame.time_constant)
        if reading.ts <= vehicle.last_ts:
            return False
        vehicle.last_ts = reading.ts
        take = reading.signals.__getitem__
        place = np.array([*map(take, self._frame.regime)])
        regime = int((((place - arrays.center) * arrays.inv_scale) ** 2).sum(axis=1).argmin())
        values = np.array([*map(take, self._frame.signals)])
        z = ((values - arrays.mean[regime]) * arrays.inv_sd[regime]).clip(-12, 12).tolist()
        vehicle.count += 1
        if vehicle.count <= self._frame.burn_in:
            for mean, value in zip(vehicle.baseline, z, strict=True):
                mean.update(value)
            return False
        row = self._features
        for j in range(d):
            evidence = vehicle.evidence[j]
            evidence.update(z[j] - vehicle.baseline[j].get())
            row[0, j] = evidence.get()
        score = float(self._model.scorer.score(row)[0])
        alarm = bool(vehicle.threshold.classify(score))
        vehicle.threshold.update(score)
        return alarm
