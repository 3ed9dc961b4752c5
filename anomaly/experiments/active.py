"""What the experiments of a folder mean for the scorer: its arms, and who is in which.

Only what a controller wrote acts: an experiment runs as its state says, with the file as it was when it began. One
that cannot be run is left out with the reason, and its vehicles score with the champion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anomaly.engine.model import Arm, Model, ThresholdPolicy
from anomaly.errors import AnomalyError, ConfigError, DataError
from anomaly.experiments.assignment import Eligible, assign, propensities, read_salt
from anomaly.experiments.file import Experiment, Threshold
from anomaly.experiments.state import ACTIVE, State, read_state

CHAMPION = "@champion"
"""What `resolve` is asked for the model of everybody outside all experiments."""
OUTSIDE = "champion"
"""The arm of everybody outside all experiments."""


class Active(NamedTuple):
    """The arms that score now, the function from a vehicle to its position in them, and what had to be left out.

    The first arm is the champion's, of all who are in no experiment. An arm of an experiment is named `ID/ARM`, of
    a vehicle that is in independent experiments of several layers `ID/ARM+ID/ARM`.
    """

    arms: Sequence[Arm]
    assign: Callable[[str], int]
    problems: Sequence[str]


class _Side(NamedTuple):
    """A model and a threshold, None where an arm names none."""

    model: Model | None
    threshold: Threshold | None


class _Part(NamedTuple):
    """What a vehicle is given by one experiment: "" and nothing from none. In a shadow arm the control's side acts, and
    `shadow` is what scores beside it."""

    name: str
    share: float
    acts: _Side
    shadow: _Side | None = None


class _Running(NamedTuple):
    """An experiment with its arms as parts, and who is in which of them."""

    experiment: Experiment
    parts: Sequence[_Part]
    position: Callable[[str], int | None]


def active_arms(folder: Path, resolve: Callable[[str], Model], lists: Path | None = None) -> Active:
    """What the experiments of `folder` mean. `resolve` loads a model by reference, `@champion` being the champion.

    `lists` is where the lists of eligible vehicles are, `folder` if left out. Raises only what `resolve` raises for
    the champion.
    """
    champion = resolve(CHAMPION)
    problems: list[str] = []
    running: list[_Running] = []
    for state in running_states(folder, problems).values():
        try:
            for other in running:
                check_apart(other.experiment, state.experiment)
            running.append(_running(state, resolve, lists or folder))
        except AnomalyError as error:
            problems.append(f"{error}: experiment {state.id} is left out, its vehicles score with the champion")
    layers: dict[str, list[_Running]] = {}
    for one in running:
        layers.setdefault(one.experiment.layer.name, []).append(one)
    choices = [[_outside(within), *(part for one in within for part in one.parts)] for within in layers.values()]
    arms = [_arm(champion, parts) for parts in product(*choices)]
    if not layers:
        arms = [Arm(OUTSIDE, 1.0, champion)]
    return Active(arms, _position(list(layers.values()), [len(parts) for parts in choices]), problems)


def running_states(folder: Path, problems: list[str] | None = None) -> dict[str, State]:
    """The states of the experiments of `folder` that run now, by id; what cannot be read is added to `problems`."""
    found: dict[str, State] = {}
    for path in sorted(folder.glob("*.state.json")):
        name = path.name.removesuffix(".state.json")
        try:
            state = read_state(folder, name)
        except DataError as error:
            if problems is not None:
                problems.append(f"{error}; until then its vehicles score with the champion")
            continue
        if state is not None and state.status in ACTIVE:
            found[name] = state
    return found


def check_apart(one: Experiment, other: Experiment) -> None:
    """Raises ConfigError if two experiments that run together claim the same vehicles for the same thing."""
    low, high = max(one.layer.range[0], other.layer.range[0]), min(one.layer.range[1], other.layer.range[1])
    if one.layer.name == other.layer.name:
        if low < high:
            raise ConfigError(
                f"experiments {one.id} and {other.id} both have the buckets {low} to {high} of layer "
                f"{one.layer.name}; give them ranges that share nothing"
            )
        return
    for what in ("model", "threshold"):
        if all(any(getattr(arm, what) is not None for arm in each.arms) for each in (one, other)):
            raise ConfigError(
                f"experiments {one.id} and {other.id} are in the layers {one.layer.name} and {other.layer.name} and "
                f"both set the {what}, of which a vehicle has one; give them one layer and ranges that share nothing"
            )


def read_eligible(folder: Path, name: str | None) -> Eligible | None:
    """The keys of the vehicles that may take part, None for all. Raises DataError for a list that is not there."""
    if name is None:
        return None
    try:
        return np.asarray(np.load(folder / name, allow_pickle=False), np.uint64)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / name} cannot be used: {error}") from error


def _running(state: State, resolve: Callable[[str], Model], lists: Path) -> _Running:
    experiment, share = state.experiment, state.share
    sides = {}
    for arm in experiment.arms:
        model = None
        if arm.name in state.models:
            model = resolve(state.models[arm.name])
            if model.digest != state.digests[arm.name]:
                raise DataError(f"{state.models[arm.name]} is not the model that it was when {state.id} began")
        sides[arm.name] = _Side(model, arm.threshold)
    control = sides[experiment.control.name]
    parts = [
        _Part(f"{experiment.id}/{arm.name}", propensity, control, sides[arm.name])
        if arm.mode == "shadow"
        else _Part(f"{experiment.id}/{arm.name}", propensity, sides[arm.name])
        for arm, propensity in zip(experiment.arms, propensities(experiment, share), strict=True)
    ]
    eligible = read_eligible(lists, state.steps[-1].eligible)
    return _Running(experiment, parts, assign(experiment, share, read_salt(experiment), eligible))


def _outside(within: Sequence[_Running]) -> _Part:
    return _Part("", max(0.0, 1.0 - sum(part.share for one in within for part in one.parts)), _Side(None, None))


def _arm(champion: Model, parts: Sequence[_Part]) -> Arm:
    """The arm of vehicles that are given these parts by the layers."""
    name = "+".join(part.name for part in parts if part.name) or OUTSIDE
    acting = _model(champion, [part.acts for part in parts])
    shadow = _model(champion, [part.shadow or part.acts for part in parts])
    propensity = float(np.prod([part.share for part in parts]))
    return Arm(name, propensity, acting, shadow if shadow.digest != acting.digest else None)


def _model(otherwise: Model, sides: Sequence[_Side]) -> Model:
    """The model that the sides lead to, `otherwise` where they name none."""
    model = next((side.model for side in sides if side.model is not None), otherwise)
    threshold = next((side.threshold for side in sides if side.threshold is not None), None)
    return model if threshold is None else _with(model, threshold)


def _with(model: Model, threshold: Threshold) -> Model:
    """The model with another threshold: another digest, for what a vehicle learned under one is not the other's."""
    policy = model.policy
    if threshold.adaptation is not None:
        policy = ThresholdPolicy.from_adaptation(threshold.adaptation)
    digest = hashlib.sha256(f"{model.digest}:{threshold.scale!r}:{threshold.adaptation!r}".encode()).hexdigest()
    return model._replace(digest=digest, k=model.k * threshold.scale, policy=policy)


def _position(layers: Sequence[Sequence[_Running]], widths: Sequence[int]) -> Callable[[str], int]:
    """Positions count as `itertools.product` does, the last layer fastest."""
    firsts = [np.cumsum([1, *(len(one.parts) for one in within)]).tolist() for within in layers]

    def position(vehicle: str) -> int:
        place = 0
        for within, first, width in zip(layers, firsts, widths, strict=True):
            own = 0
            for one, start in zip(within, first, strict=False):
                found = one.position(vehicle)
                if found is not None:
                    own = start + found
                    break
            place = place * width + own
        return place

    return position
