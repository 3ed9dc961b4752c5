"""The experiment file `experiments/<id>.toml`: a person writes it, this program never does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from anomaly import settings
from anomaly.errors import ConfigError
from anomaly.fleet import Name

Metric = Literal["false_alarms", "detected", "lead", "alerts"]
Days = Annotated[float, Meta(ge=0.0)]
Share = Annotated[float, Meta(gt=0.0, le=1.0)]
ModelReference = Annotated[
    str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*(/[0-9]+|@[a-z]+)|[0-9a-f]{8,64})$", max_length=200)
]

BUCKETS = 10_000
"""Vehicles are hashed into so many buckets; shares are rounded to one of them."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table that a person writes: unknown keys are refused."""


class ExperimentArm(_Table, frozen=True):
    """`[[arms]]`: `share` of the experiment's vehicles score with `model` ("fleet/3", "fleet@alias", a digest)."""

    name: Name
    model: ModelReference
    role: Literal["control", "treatment"]
    share: Share
    mode: Literal["live"] = "live"


class Layer(_Table, frozen=True):
    """`[layer]`: which buckets [low, high) of a layer the experiment has; experiments in one share none."""

    name: Name = "default"
    range: tuple[int, int] = (0, BUCKETS)

    def __post_init__(self) -> None:
        low, high = self.range
        if not 0 <= low < high <= BUCKETS:
            raise ValueError(f"range: [{low}, {high}] must rise within 0 to {BUCKETS}")


class Step(_Table, frozen=True):
    """`[[ramp]]`: the share of the layer's range that takes part, and how long at least before the next step."""

    share: Share
    min_days: Days = 0.0
    min_vehicles: Annotated[int, Meta(ge=0)] = 0


class Primary(_Table, frozen=True):
    """`[primary]`: what the experiment asks. It passes if the treatment is worse by less than `margin`, surely.

    0: it must be better. In the metric's own unit, see `docs/reference/experiment-file.md`.
    """

    metric: Metric
    margin: Annotated[float, Meta(ge=0.0)] = 0.0


class Guardrail(_Table, frozen=True):
    """`[[guardrails]]`: the treatment fails if it is surely worse by more than `max_harm`, in the metric's unit."""

    metric: Metric
    max_harm: Annotated[float, Meta(ge=0.0)]


class Experiment(_Table, frozen=True):
    """A whole experiment file. `unit` is the vehicle and nothing else; a change is a new `revision`."""

    id: Name
    arms: list[ExperimentArm]
    primary: Primary
    revision: Annotated[int, Meta(ge=1)] = 1
    unit: Literal["vehicle"] = "vehicle"
    layer: Layer = Layer()
    salt_ref: Annotated[str, Meta(pattern=r"^(file|env):.+$")] | None = None
    ramp: list[Step] = msgspec.field(default_factory=lambda: [Step(share=1.0)])
    guardrails: list[Guardrail] = []
    label_delay_days: Days = 14.0
    min_days: Days = 7.0
    max_days: Days = 90.0
    min_vehicles: Annotated[int, Meta(ge=2)] = 50
    on_pass: Literal["hold", "promote"] = "hold"
    on_fail: Literal["hold", "rollback"] = "rollback"
    on_inconclusive: Literal["hold"] = "hold"
    owner: str = ""

    def __post_init__(self) -> None:
        problems = [*_arm_problems(self.arms), *_plan_problems(self)]
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def control(self) -> ExperimentArm:
        """The arm that the treatment is compared with."""
        return next(arm for arm in self.arms if arm.role == "control")

    @property
    def treatment(self) -> ExperimentArm:
        """The arm that may be promoted."""
        return next(arm for arm in self.arms if arm.role == "treatment")

    def digest(self) -> str:
        """Hex digest of all that is in the file, whatever its order and comments."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def load(path: Path) -> Experiment:
    """Read an experiment file. Raises ConfigError with everything that is wrong with it."""
    experiment = settings.load(path, Experiment)
    if experiment.id != path.stem:
        raise ConfigError(str(path), [f"id: `{experiment.id}` must be the file's name, `{path.stem}`"])
    return experiment


def load_all(folder: Path) -> list[Experiment]:
    """All experiments of a folder, by id; none if there is no folder. Raises ConfigError as `load` does."""
    return [load(path) for path in sorted(folder.glob("*.toml"))]


def _arm_problems(arms: list[ExperimentArm]) -> Iterator[str]:
    total = sum(arm.share for arm in arms)
    if abs(total - 1.0) > 1e-9:
        yield f"arms: the shares sum to {total:g}; they must sum to 1"
    for role in ("control", "treatment"):
        count = sum(arm.role == role for arm in arms)
        if count != 1:
            yield f"arms: {count} have the role {role}; there must be one"
    names = [arm.name for arm in arms]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"arms: {name} is there twice"


def _plan_problems(experiment: Experiment) -> Iterator[str]:
    shares = [step.share for step in experiment.ramp]
    if not shares or shares != sorted(shares):
        yield f"ramp: the shares {shares} must rise from step to step; nobody leaves an arm during a ramp"
    if experiment.min_days > experiment.max_days:
        yield f"min_days: {experiment.min_days:g} is above max_days {experiment.max_days:g}"
    metrics = [guardrail.metric for guardrail in experiment.guardrails]
    for metric in sorted({metric for metric in metrics if metrics.count(metric) > 1}):
        yield f"guardrails: {metric} is there twice"
