"""An experiment file and vehicles for the tests of experiments."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa

from anomaly import settings
from anomaly.experiments.compare import Vehicles
from anomaly.experiments.file import Experiment

TEXT = """
id = "colder"
primary = { metric = "false_alarms", margin = 0.0 }
guardrails = [{ metric = "detected", max_harm = 0.1 }]
min_days = 7
label_delay_days = 3
min_vehicles = 50
on_pass = "promote"
[[arms]]
name = "old"
model = "fleet/1"
role = "control"
share = 0.5
[[arms]]
name = "new"
model = "fleet@challenger"
role = "treatment"
share = 0.5
"""
RAMP = "\nramp = [{ share = 0.1, min_days = 2, min_vehicles = 10 }, { share = 1.0 }]\n"


def experiment(text: str = TEXT) -> Experiment:
    """The experiment of this text."""
    return settings.parse(text, Experiment, "colder.toml")


def changed(**fields: object) -> Experiment:
    """The experiment with other fields."""
    return msgspec.structs.replace(experiment(), **fields)


def ramped() -> Experiment:
    """The same with two steps."""
    return experiment(RAMP + TEXT)


def vehicles(count: int, alarms: tuple[float, float], detected: tuple[float, float], seed: int = 0) -> Vehicles:
    """`count` vehicles v0, v1, ..., odd ones the treatment.

    `alarms` are false alarms a vehicle over 30 days, `detected` the share of faults found, in control and treatment.
    """
    rng = np.random.default_rng(seed)
    arm = np.arange(count) % 2
    false_alarms = rng.poisson(np.array(alarms)[arm]).astype(float)
    faults = rng.random(count) < 0.5
    found = faults & (rng.random(count) < np.array(detected)[arm])
    return rows(arm, false_alarms, faults, found)


def rows(arm: np.ndarray, false_alarms: np.ndarray, faults: np.ndarray, found: np.ndarray) -> Vehicles:
    """Vehicles of these arms with what happened to them in 30 days; a third in each of three regions."""
    count = len(arm)
    sums = {
        "days": np.full(count, 30.0),
        "mature_days": np.full(count, 27.0),
        "alerts": false_alarms + found,
        "false_alarms": false_alarms,
        "faults": faults.astype(float),
        "detected": found.astype(float),
        "missed": (faults & ~found).astype(float),
        "lead_days": found * 10.0,
        "cost": 10.0 * false_alarms + 500.0 * (faults & ~found),
        "pre_rate": np.full(count, np.nan),
        "first_fault": np.where(faults, np.arange(count, dtype=float), np.inf),
        "first_detected": found.astype(float),
    }
    names = pa.array([f"v{number}" for number in range(count)])
    return Vehicles(names, arm.astype(np.int8), sums, {"region": (np.arange(count) % 3, ["east", "north", "west"])})


def twins(count: int) -> Vehicles:
    """`vehicles` in which each of the control has a twin in the treatment that fared exactly as it did."""
    table = vehicles(count, (0.7, 0.7), (0.8, 0.8))
    place = np.arange(count) // 2 * 2
    return table._replace(sums={name: column[place] for name, column in table.sums.items()})
