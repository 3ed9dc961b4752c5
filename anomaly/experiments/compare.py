"""The arms of an experiment, compared by vehicle: plain figures, and what each method makes of each metric."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.experiments import betting, confidence_sequence, first_event, fixed_horizon
from anomaly.experiments.beside import Beside
from anomaly.experiments.confidence_sequence import MIN_EVENTS, Arm
from anomaly.experiments.file import Experiment, Guardrail, Primary
from anomaly.experiments.metrics import RATIOS, Method, Metric, Ratio

Result = Literal["pass", "fail", "inconclusive"]
Values = NDArray[np.float64]
MAX_SLICES = 12
"""A field with more different words than this is no slice."""


class Vehicles(NamedTuple):
    """One row a vehicle. `arm` int8[n] is the position of its arm, -1 for none; `names` an Arrow array of strings.

    `sums` has float64[n] for each of `metrics.COUNTS`, and `pre_rate` (alerts a vehicle-day before it took part, NaN
    where it was not there), `first_fault` (when its first fault became known, infinity for none), `first_detected`.
    `fields` are context fields by name: int codes[n] (-1: not known), and their words.
    """

    names: Any
    arm: NDArray[np.int8]
    sums: Mapping[str, Values]
    fields: Mapping[str, tuple[NDArray[np.int64], Sequence[str]]]


class ArmFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One arm: its vehicles, their days, and each metric in its unit; None where there is nothing to divide by."""

    arm: str
    role: str
    vehicles: int
    vehicle_days: float
    faults: int
    metrics: dict[str, float | None]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one metric says at this look: how much worse the treatment is, below 0 better, in the metric's unit.

    `low` and `high` hold at every look together with probability 1 - alpha (method `fixed`: at one look), `log_e` is
    the first-event e-process against `log_needed`; None where the method has none, or an arm nothing to divide by.
    """

    metric: Metric
    role: Literal["primary", "guardrail"]
    method: Method
    alpha: float
    limit: float
    harm: float | None
    low: float | None
    high: float | None
    log_e: float | None
    log_needed: float
    control_events: float
    treatment_events: float
    result: Result


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Sample-ratio mismatch: vehicles by arm against the share that was promised."""

    control: int
    treatment: int
    share: float
    log_e: float
    log_needed: float

    @property
    def broken(self) -> bool:
        """Whether the arms are surely not split as promised."""
        return self.log_e >= self.log_needed


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The primary in one part of the vehicles: exploratory, no verdict comes from it."""

    field: str
    word: str
    vehicles: int
    harm: float | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an experiment's arms at one moment. Where the treatment is a shadow, both arms are the same
    vehicles, and `beside` tells more of it."""

    arms: list[ArmFigures]
    readings: list[Reading]
    split: Split
    slices: list[Slice] = []
    beside: Beside | None = None

    @property
    def primary(self) -> Reading:
        """What the experiment asks."""
        return self.readings[0]

    @property
    def guardrails(self) -> list[Reading]:
        """What must not get worse, in the order of the file."""
        return self.readings[1:]


def compare(experiment: Experiment, vehicles: Vehicles) -> Comparison:
    """Compare the arms by `vehicles`; those in none are left out. The same vehicles give the same comparison."""
    rows = _Rows(experiment, vehicles)
    primary = experiment.primary
    asked: list[Primary | Guardrail] = [primary, *experiment.guardrails]
    control, treatment = len(rows.control), len(rows.treatment)
    log_e = float(first_event.log_e_split(treatment, control + treatment, experiment.treated_share))
    return Comparison(
        arms=[_figures(experiment, vehicles, place) for place in range(len(experiment.arms))],
        readings=[_reading(experiment, rows, one) for one in asked],
        split=Split(
            control=control,
            treatment=treatment,
            share=experiment.treated_share,
            log_e=rounded(log_e) or 0.0,
            log_needed=-math.log(experiment.srm_alpha),
        ),
        slices=list(_slices(rows, RATIOS[primary.metric])),
    )


class _Rows:
    """Which rows are whose, and what was known of vehicles before they took part."""

    def __init__(self, experiment: Experiment, vehicles: Vehicles) -> None:
        self.control, self.treatment = (
            np.flatnonzero(vehicles.arm == experiment.arms.index(arm))
            for arm in (experiment.control, experiment.treatment)
        )
        self.vehicles = vehicles
        self._covariates = _covariates(experiment, vehicles)

    def of(self, ratio: Ratio, rows: NDArray[np.int64], adjusted: bool) -> Arm:
        """What the statistics need of these rows."""
        known = self._covariates[rows][:, : None if adjusted else 0]
        return Arm(self.vehicles.sums[ratio.over][rows], self.vehicles.sums[ratio.under][rows], known)


def _covariates(experiment: Experiment, vehicles: Vehicles) -> Values:
    """float64[n, c]: the pre-period's rate where it tells vehicles apart, and an indicator for each stratum."""
    columns: list[Values] = []
    before = vehicles.sums["pre_rate"]
    known = np.isfinite(before)
    if experiment.primary.pre_period and known.any() and np.ptp(before[known]) > 0:
        columns.append(np.where(known, before, before[known].mean()))
    for field in experiment.strata:
        codes, words = vehicles.fields.get(field, (np.zeros(0, np.int64), ()))
        columns += [(codes == code).astype(np.float64) for code in range(1, len(words))]
    return np.column_stack(columns) if columns else np.zeros((len(before), 0))


def _reading(experiment: Experiment, rows: _Rows, asked: Primary | Guardrail) -> Reading:
    ratio, guardrail = RATIOS[asked.metric], isinstance(asked, Guardrail)
    alpha = experiment.alpha_of(asked) if isinstance(asked, Guardrail) else asked.alpha
    limit = asked.max_harm if isinstance(asked, Guardrail) else asked.margin
    events = [float(rows.vehicles.sums[ratio.over][arm].sum()) for arm in (rows.control, rows.treatment)]
    low = high = log_e = None
    harm = _harm(rows, ratio)
    if asked.method == "first_event":
        harm, log_e, events = _first_events(experiment, rows, ratio, limit)
    elif harm is not None:
        low, high = _bounds(experiment, rows, asked, alpha)
    enough = sum(events) >= (asked.min_events if isinstance(asked, Guardrail) else MIN_EVENTS)
    log_needed = -math.log(alpha)
    return Reading(
        metric=asked.metric,
        role="guardrail" if guardrail else "primary",
        method=asked.method,
        alpha=alpha,
        limit=limit,
        harm=harm,
        low=low,
        high=high,
        log_e=log_e,
        log_needed=round(log_needed, 6),
        control_events=events[0],
        treatment_events=events[1],
        result=result_of((low, high), log_e, limit, log_needed) if enough else "inconclusive",
    )


def result_of(
    bounds: tuple[float | None, float | None], log_e: float | None, limit: float, log_needed: float
) -> Result:
    """What bounds for the harm, or an e-process against it, mean for what is allowed."""
    low, high = bounds
    if (low is not None and low > limit) or (log_e is not None and log_e >= log_needed):
        return "fail"
    return "pass" if high is not None and high < limit else "inconclusive"


def _harm(rows: _Rows, ratio: Ratio) -> float | None:
    values = [_value(ratio, rows.vehicles.sums, arm) for arm in (rows.treatment, rows.control)]
    if values[0] is None or values[1] is None:
        return None
    return rounded((values[0] - values[1]) * (1.0 if ratio.better == "lower" else -1.0))


def _bounds(
    experiment: Experiment, rows: _Rows, asked: Primary | Guardrail, alpha: float
) -> tuple[float | None, float | None]:
    """The interval for the harm by the method that was asked for; None, None where it says nothing yet."""
    ratio = RATIOS[asked.metric]
    found: tuple[float, float] | None
    if asked.method == "betting":
        found = _betted(experiment, rows, alpha)
    else:
        adjusted = asked.method == "sequence"
        arms = [rows.of(ratio, arm, adjusted) for arm in (rows.treatment, rows.control)]
        method = confidence_sequence.interval if adjusted else fixed_horizon.interval
        found = method(arms[0], arms[1], alpha)
    if found is None:
        return None, None
    low, high = (ratio.scale * bound for bound in found)
    return (rounded(low), rounded(high)) if ratio.better == "lower" else (rounded(-high), rounded(-low))


def _betted(experiment: Experiment, rows: _Rows, alpha: float) -> tuple[float, float]:
    """The difference in the share of vehicles whose first fault was found, in the order in which it became known."""
    sums, names = rows.vehicles.sums, rows.vehicles.names
    own = np.concatenate([rows.treatment, rows.control])
    treated = np.arange(len(own)) < len(rows.treatment)
    ill = np.flatnonzero(np.isfinite(sums["first_fault"][own]))
    when = sums["first_fault"][own[ill]]
    order = ill[np.lexsort((np.array([names[int(row)].as_py() for row in own[ill]], object).astype(str), when))]
    return betting.interval(sums["first_detected"][own[order]], treated[order], experiment.treated_share, alpha)


def _first_events(
    experiment: Experiment, rows: _Rows, ratio: Ratio, max_harm: float
) -> tuple[float | None, float, list[float]]:
    """The relative excess of vehicles with an event, ln E that it is above `max_harm`, such vehicles by arm."""
    had = rows.vehicles.sums[ratio.event or ratio.over] > 0
    control, treatment = int(had[rows.control].sum()), int(had[rows.treatment].sum())
    share = experiment.treated_share
    log_e = first_event.log_e_harm(treatment, control + treatment, share, 1.0 + max_harm)
    excess = treatment / control * (1.0 - share) / share - 1.0 if control else None
    return rounded(excess), float(np.clip(log_e, -1e6, 1e6)), [float(control), float(treatment)]


def _figures(experiment: Experiment, vehicles: Vehicles, place: int) -> ArmFigures:
    rows, arm = np.flatnonzero(vehicles.arm == place), experiment.arms[place]
    return ArmFigures(
        arm=arm.name,
        role=arm.role,
        vehicles=len(rows),
        vehicle_days=float(vehicles.sums["days"][rows].sum()),
        faults=int(vehicles.sums["faults"][rows].sum()),
        metrics={name: rounded(_value(ratio, vehicles.sums, rows)) for name, ratio in RATIOS.items()},
    )


def _slices(rows: _Rows, ratio: Ratio) -> Iterator[Slice]:
    for field, (codes, words) in rows.vehicles.fields.items():
        for code, word in enumerate(words if 1 < len(words) <= MAX_SLICES else ()):
            parts = [arm[codes[arm] == code] for arm in (rows.treatment, rows.control)]
            values = [_value(ratio, rows.vehicles.sums, part) for part in parts]
            harm = None if values[0] is None or values[1] is None else values[0] - values[1]
            sign = 1.0 if ratio.better == "lower" else -1.0
            yield Slice(
                field=field,
                word=word,
                vehicles=sum(map(len, parts)),
                harm=None if harm is None else rounded(sign * harm),
            )


def _value(ratio: Ratio, sums: Mapping[str, Values], rows: NDArray[np.int64]) -> float | None:
    under = float(sums[ratio.under][rows].sum())
    return ratio.scale * float(sums[ratio.over][rows].sum()) / under if under else None


def rounded(value: float | None) -> float | None:
    """To six places; None for what is not finite."""
    return round(float(value), 6) if value is not None and math.isfinite(value) else None
