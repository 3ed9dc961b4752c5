"""A registry with honest models in it, for the tests of the registry and of its commands."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from anomaly.engine.model import ThresholdPolicy
from anomaly.registry.manifest import Manifest, Metric, Policy, Window
from anomaly.registry.store import Registry
from tests.detectors.onnx_files import SIGNALS, distance

FRAME = b'{"signals":["a","b","c"],"version":1}'
CARD = b"# Bus\n\nHealthy: the first half.\n"


def manifest(**changes: Any) -> Manifest:
    """What `train` knows of a model before it is published."""
    values: dict[str, Any] = {
        "name": "bus",
        "family": "distance",
        "features": SIGNALS,
        "signals": SIGNALS,
        "width": 8,
        "k": 7.25,
        "q_fleet": 1.0 / 3.0,
        "policy": Policy.of(ThresholdPolicy.from_adaptation(0.2)),
        "budget": 1.0,
        "window": Window(start=0, end=999, time_unit="s", readings=12_000, vehicles=40),
        "metrics": {"false_alarms": Metric(value=0.9, low=0.4, high=1.6), "lead": Metric(value=None)},
        "opset": 17,
        "libraries": {"numpy": "2.4.6"},
        "seed": 0,
        "fleet_digest": "ab" * 32,
    }
    return Manifest(**(values | changes))


def publish(registry: Registry, fleet: str = "bus", **changes: Any) -> int:
    """Publish the honest model, or one with another `scale` of its weights."""
    files = {"model.onnx": distance(scale=changes.pop("scale", 1.0)), "card.md": CARD}
    return registry.publish(fleet, files, manifest(**changes), FRAME)


def stocked(folder: Path, count: int = 3) -> Registry:
    """A registry with `count` different models of the fleet `bus` and no alias."""
    registry = Registry(folder)
    for step in range(count):
        publish(registry, scale=1.0 + step)
    return registry


UNBOUND = Policy.of(ThresholdPolicy(math.inf, 0.1, math.inf))
