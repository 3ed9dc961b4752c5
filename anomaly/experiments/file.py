"""The experiment file `experiments/<id>.toml`: a person writes it, this program never does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from anomaly import settings
from anomaly.errors import ConfigError
from anomaly.experiments.metrics import METHODS, REFUSED, Method, Metric
from anomaly.fleet import Name
from anomaly.secret import REFERENCE

KnownMetric = Annotated[Metric, Meta(extra={"refused": REFUSED})]
Unit = Annotated[
    Literal["vehicle"],
    Meta(
        extra={
            "refused": dict.fromkeys(
                ("reading", "event", "episode", "day"),
                "those of one vehicle resemble each other: looked at daily, such a test finds a difference between "
                "equal arms in most experiments; the unit is the vehicle",
            )
        }
    ),
]
Days = Annotated[float, Meta(ge=0.0)]
Share = Annotated[float, Meta(gt=0.0, le=1.0)]
Alpha = Annotated[float, Meta(gt=0.0, lt=0.5)]
ModelReference = Annotated[
    str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*(/[0-9]+|@[a-z]+)|[0-9a-f]{8,64})$", max_length=200)
]

BUCKETS = 10_000
"""Vehicles are hashed into so many buckets; shares are rounded to one of them."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table that a person writes: unknown keys are refused."""


class Threshold(_Table, frozen=True):
    """`[arms.threshold]`: the arm's threshold policy. k is multiplied by `scale`; `adaptation` as in the fleet file."""

    scale: Annotated[float, Meta(gt=0.0, le=10.0)] = 1.0
    adaptation: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None


class ExperimentArm(_Table, frozen=True):
    """`[[arms]]`: `share` of the experiment's vehicles score with `model`, `threshold`, or both.

    `model` is "fleet/3", "fleet@alias" or a digest; left out, it is the champion of the moment. A `shadow` arm scores
    beside the control and never acts.
    """

    name: Name
    role: Literal["control", "treatment"]
    share: Share
    model: ModelReference | None = None
    threshold: Threshold | None = None
    mode: Literal["live", "shadow"] = "live"


class Layer(_Table, frozen=True):
    """`[layer]`: which buckets [low, high) of a layer the experiment has.

    Experiments in one layer share no vehicle; those in different layers are independent of each other.
    """

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

    `margin` is in the metric's own unit, 0: it must be better. `mde` is the relative improvement that `plan` asks
    power for. `pre_period` takes off what a vehicle's own past explains.
    """

    metric: KnownMetric
    margin: Annotated[float, Meta(ge=0.0)] = 0.0
    mde: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.2
    method: Method = "sequence"
    alpha: Alpha = 0.05
    pre_period: bool = True


class Guardrail(_Table, frozen=True):
    """`[[guardrails]]`: the treatment fails if it is surely worse by more than `max_harm`.

    `max_harm` is in the metric's own unit; for `first_event` it is relative, the part by which more vehicles may have
    the event. `harm`, in the same unit, is what `plan` asks that it finds; left out, twice `max_harm`, or where that
    is 0, a doubling (of what is missed, where more is better). `alpha` is its own, else an equal part of
    `guardrail_alpha`; nothing is concluded from fewer than `min_events` in both arms together.
    """

    metric: KnownMetric
    max_harm: Annotated[float, Meta(ge=0.0)]
    harm: Annotated[float, Meta(gt=0.0)] | None = None
    method: Method = "sequence"
    alpha: Alpha | None = None
    min_events: Annotated[int, Meta(ge=1)] = 10


class Cost(_Table, frozen=True):
    """`[cost]`: what the metric `cost` counts, in any currency."""

    false_alarm: Annotated[float, Meta(ge=0.0)] = 10.0
    missed: Annotated[float, Meta(ge=0.0)] = 500.0


class Experiment(_Table, frozen=True):
    """A whole experiment file. `unit` is the vehicle and nothing else; a change is a new `revision`."""

    id: Name
    arms: list[ExperimentArm]
    primary: Primary
    revision: Annotated[int, Meta(ge=1)] = 1
    unit: Unit = "vehicle"
    owner: str = ""
    layer: Layer = Layer()
    salt_ref: Annotated[str, Meta(pattern=REFERENCE)] | None = None
    eligibility: dict[str, list[str]] = {}
    strata: list[str] = []
    holdout_share: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    audit_share: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    ramp: list[Step] = msgspec.field(default_factory=lambda: [Step(share=1.0)])
    guardrails: list[Guardrail] = []
    guardrail_alpha: Alpha = 0.05
    srm_alpha: Alpha = 0.001
    cost: Cost = Cost()
    label_delay_days: Annotated[float, Meta(ge=0.0, le=60.0)] = 14.0
    min_days: Days = 7.0
    max_days: Days = 90.0
    min_vehicles: Annotated[int, Meta(ge=2)] = 50
    on_pass: Literal["hold", "promote"] = "hold"
    on_fail: Literal["hold", "rollback"] = "rollback"
    on_inconclusive: Literal["hold"] = "hold"

    def __post_init__(self) -> None:
        problems = [*_arm_problems(self.arms), *_plan_problems(self), *_method_problems(self)]
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

    @property
    def treated_share(self) -> float:
        """The probability that a vehicle of the experiment is in the treatment."""
        return self.treatment.share

    def alpha_of(self, guardrail: Guardrail) -> float:
        """Its own, or an equal part of what guardrails without one of their own have together."""
        if guardrail.alpha is not None:
            return guardrail.alpha
        own = sum(one.alpha for one in self.guardrails if one.alpha is not None)
        return (self.guardrail_alpha - own) / sum(one.alpha is None for one in self.guardrails)

    def digest(self) -> str:
        """Hex digest of all that is in the file, whatever its order and comments."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def load(path: Path) -> Experiment:
    """Read an experiment file. Raises ConfigError with everything that is wrong with it."""
    experiment = settings.load(path, Experiment)
    if experiment.id != path.stem:
        raise ConfigError(str(path), [f"id: `{experiment.id}` must be the file's name, `{path.stem}`"])
    return experiment


def names(folder: Path) -> list[str]:
    """The ids of all experiment files of a folder; none if there is no folder."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def _arm_problems(arms: Sequence[ExperimentArm]) -> Iterator[str]:
    total = sum(arm.share for arm in arms)
    if abs(total - 1.0) > 1e-9:
        yield f"arms: the shares sum to {total:g}; they must sum to 1"
    for role in ("control", "treatment"):
        count = sum(arm.role == role for arm in arms)
        if count != 1:
            yield f"arms: {count} have the role {role}; there must be one"
    yield from _twice("arms", [arm.name for arm in arms])
    for arm in arms:
        if arm.role == "control" and arm.mode == "shadow":
            yield f"arms: {arm.name} is the control and must be live; the treatment may be a shadow"
        if arm.role == "treatment" and arm.model is None and arm.threshold is None:
            yield f"arms: {arm.name} is neither another model nor another threshold; name one"


def _plan_problems(experiment: Experiment) -> Iterator[str]:
    shares = [step.share for step in experiment.ramp]
    if not shares or shares != sorted(shares):
        yield f"ramp: the shares {shares} must rise from step to step; nobody leaves an arm during a ramp"
    if experiment.min_days > experiment.max_days:
        yield f"min_days: {experiment.min_days:g} is above max_days {experiment.max_days:g}"
    yield from _twice("guardrails", [guardrail.metric for guardrail in experiment.guardrails])
    own = [guardrail.alpha for guardrail in experiment.guardrails if guardrail.alpha is not None]
    left = sum(own) < experiment.guardrail_alpha or (len(own) == len(experiment.guardrails))
    if own and (sum(own) > experiment.guardrail_alpha + 1e-12 or not left):
        yield (
            f"guardrails: their alpha sums to {sum(own):g}; it must leave something of guardrail_alpha "
            f"{experiment.guardrail_alpha:g} for the others, and never be above it"
        )
    for guardrail in experiment.guardrails:
        if guardrail.harm is not None and guardrail.harm <= guardrail.max_harm:
            yield f"guardrails: {guardrail.metric}: harm {guardrail.harm:g} must be above max_harm, which is allowed"
    for field, values in experiment.eligibility.items():
        if not values:
            yield f"eligibility.{field}: the list is empty, so that nobody would take part"


def _method_problems(experiment: Experiment) -> Iterator[str]:
    asked: list[tuple[str, Primary | Guardrail]] = [("primary", experiment.primary)]
    asked += [("guardrails", guardrail) for guardrail in experiment.guardrails]
    for where, one in asked:
        if one.method not in METHODS[one.metric]:
            known = ", ".join(METHODS[one.metric])
            yield f"{where}: {one.metric} cannot be judged by {one.method}; one of {known}"
        elif where == "primary" and one.method == "first_event":
            yield "primary: first_event finds harm alone, never a pass; take it for a guardrail"
        elif where == "guardrails" and one.method == "fixed":
            yield f"guardrails: {one.metric}: fixed is read once, a guardrail is looked at every time"


def _twice(where: str, names: Sequence[str]) -> Iterator[str]:
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{where}: {name} is there twice"
