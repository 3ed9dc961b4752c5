"""PerVehicle: a detector of its own for each vehicle, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from river import anomaly, preprocessing

from anomaly.detectors.per_vehicle import PerVehicle
from anomaly.errors import UsageError
from anomaly.thresholds.adaptive import AdaptiveThreshold


def test_each_vehicle_learns_for_itself() -> None:
    """A vehicle's scores are those of a detector that saw this vehicle alone, whatever the others sent."""
    model = preprocessing.StandardScaler() | anomaly.OneClassSVM()
    fleet, alone = PerVehicle(model), model.clone()
    for value, noise in np.random.default_rng(2).normal(0.0, 1.0, (100, 2)).tolist():
        assert fleet.score_one("bus 1", {"x": value}) == alone.score_one({"x": value})
        fleet.learn_one("bus 1", {"x": value})
        fleet.learn_one("bus 2", {"x": 100.0 + noise})
        alone.learn_one({"x": value})


def test_scoring_a_stranger_leaves_no_trace() -> None:
    """A vehicle that never learned is scored as by a fresh detector and takes no memory."""
    fleet = PerVehicle(anomaly.OneClassSVM())
    fleet.learn_one("known", {"x": 3.0})
    assert fleet.score_one("stranger", {"x": 3.0}) == anomaly.OneClassSVM().score_one({"x": 3.0})
    assert len(fleet) == 1


def test_memory_is_bounded_and_the_longest_unused_goes() -> None:
    """Beyond max_vehicles the one that was used longest ago is dropped, counted, and starts anew."""
    fleet = PerVehicle(anomaly.OneClassSVM(), max_vehicles=2)
    for vehicle in ("a", "b"):
        fleet.learn_one(vehicle, {"x": 3.0})
    fleet.score_one("a", {"x": 3.0})
    fleet.learn_one("c", {"x": 3.0})
    assert (len(fleet), fleet.dropped) == (2, 1)
    assert fleet.score_one("b", {"x": 3.0}) == anomaly.OneClassSVM().score_one({"x": 3.0})
    assert fleet.score_one("a", {"x": 3.0}) != anomaly.OneClassSVM().score_one({"x": 3.0})


def test_it_takes_a_threshold_of_ours() -> None:
    """Any River model can be inside, an AdaptiveThreshold too; the model that was given stays untouched."""
    threshold = AdaptiveThreshold(anomaly.OneClassSVM(), k=2.0, q_fleet=1.0)
    fleet = PerVehicle(threshold)
    for _ in range(20):
        fleet.learn_one("a", {"x": 0.1})
    assert fleet._models["a"].q < 1.0 == threshold.q


def test_room_for_nobody_is_refused() -> None:
    """At least one vehicle must fit."""
    with pytest.raises(UsageError, match="max_vehicles is 0"):
        PerVehicle(anomaly.OneClassSVM(), max_vehicles=0)
