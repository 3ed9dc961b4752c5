"""What the experiments of a folder mean for the scorer: its arms, and who is in which."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from anomaly.engine.model import Arm, Model
from anomaly.errors import ConfigError
from anomaly.experiments.assignment import assign, propensities, read_salt
from anomaly.experiments.controller import check_unchanged
from anomaly.experiments.file import Experiment, load_all
from anomaly.experiments.state import ACTIVE, State, Taken, read_state

CHAMPION = "@champion"
"""What `resolve` is asked for the model of everybody outside all experiments."""
OUTSIDE = "champion"
"""The arm of everybody outside all experiments."""


class Active(NamedTuple):
    """An experiment that runs, at `share` of its range, with the models that are pinned."""

    experiment: Experiment
    share: float
    models: Mapping[str, str]


def active_arms(folder: Path, resolve: Callable[[str], Model]) -> tuple[list[Arm], Callable[[str], int], str]:
    """The arms that score now, the function from a vehicle to its position in them, and a digest of all that.

    The first arm is the champion's, of all who are in no experiment; an arm of an experiment is named `ID/ARM`.
    An experiment takes part from the moment its file is there, on the first step of its ramp until a controller
    wrote its state, and no more once that says that it is over. `resolve` loads a model by reference, `@champion`
    being the champion. Raises ConfigError for a file that cannot be run, for a running revision that was changed,
    and for two experiments that claim the same vehicles.
    """
    running = active(folder)
    arms: list[Arm] = []
    positions: list[tuple[int, Callable[[str], int | None]]] = []
    for experiment, share, models in running:
        positions.append((1 + len(arms), assign(experiment, share, read_salt(experiment))))
        for arm, propensity in zip(experiment.arms, propensities(experiment, share), strict=True):
            arms.append(Arm(f"{experiment.id}/{arm.name}", propensity, resolve(models[arm.name])))
    outside = max(0.0, 1.0 - sum(arm.propensity for arm in arms))
    arms.insert(0, Arm(OUTSIDE, outside, resolve(CHAMPION)))

    def position(vehicle: str) -> int:
        for first, within in positions:
            place = within(vehicle)
            if place is not None:
                return first + place
        return 0

    return arms, position, _digest(running, arms)


def active(folder: Path) -> list[Active]:
    """The experiments of `folder` that run now, by id. Raises ConfigError as `active_arms` does."""
    running = [found for experiment in load_all(folder) if (found := _active(folder, experiment))]
    for one, other in combinations([found.experiment for found in running], 2):
        _check_disjoint(one, other)
    return running


def entered(experiment: Experiment, steps: Sequence[Taken], salt: bytes, vehicles: Sequence[str]) -> dict[str, int]:
    """When each of `vehicles` that takes part began to: the time of the first step of the ramp that it is in."""
    since: dict[str, int] = {}
    for step in steps:
        position = assign(experiment, step.share, salt)
        for vehicle in vehicles:
            if vehicle not in since and position(vehicle) is not None:
                since[vehicle] = step.at
    return since


def _active(folder: Path, experiment: Experiment) -> Active | None:
    state: State | None = read_state(folder, experiment.id)
    if state is None or state.revision != experiment.revision:
        return Active(experiment, experiment.ramp[0].share, {arm.name: arm.model for arm in experiment.arms})
    if state.status not in ACTIVE:
        return None
    check_unchanged(experiment, state)
    return Active(experiment, state.share, state.models)


def _check_disjoint(one: Experiment, other: Experiment) -> None:
    low, high = max(one.layer.range[0], other.layer.range[0]), min(one.layer.range[1], other.layer.range[1])
    if one.layer.name != other.layer.name:
        problem = f"are in the layers {one.layer.name} and {other.layer.name}, and a vehicle has one model"
    elif low < high:
        problem = f"both have the buckets {low} to {high} of layer {one.layer.name}"
    else:
        return
    raise ConfigError(
        f"experiments {one.id} and {other.id} {problem}; give them one layer and ranges that share nothing"
    )


def _digest(running: Sequence[Active], arms: Sequence[Arm]) -> str:
    parts = [f"{found.experiment.digest()}:{found.experiment.revision}:{found.share!r}" for found in running]
    parts += [f"{arm.name}:{arm.model.digest}:{arm.propensity!r}" for arm in arms]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
