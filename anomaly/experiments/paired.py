"""A shadow against the model that acts, on the same vehicles: each vehicle is its own control.

Differences are taken within a vehicle, so that what makes vehicles unlike each other falls out. The methods are those
of the file, in their form for pairs:

- `sequence`: the asymptotic confidence sequence (`confidence_sequence`) for the ratio sum(d) / sum(under), d the
  vehicle's difference, linear by the delta method: R + (d - R under) / mean(under). The intrinsic time is a quarter of
  the effective number of differing events, (sum |d|)^2 / sum d^2 (Kish 1965), which is what two independent arms with
  that many events in all would have; MIN_EVENTS of them are needed. Where the two never differ nothing is concluded.
- `fixed`: the same ratio and error at one look, normal quantile.
- `first_event`: without allowed harm the vehicles with an event by one model alone are coin throws under the null
  (McNemar 1947), the e-process being exact; with allowed harm all vehicles with an event count for each model they
  have it by, which is valid and says less (a vehicle that has it by both counts for either side, and its factor is
  below 1).
- `betting`: each first fault bets (1 + found by the shadow - found by the acting model) / 2, in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.experiments import betting, first_event
from anomaly.experiments.beside import Beside
from anomaly.experiments.compare import Comparison, Reading, Values, Vehicles, compare, result_of, rounded
from anomaly.experiments.confidence_sequence import MIN_EVENTS, OPTIMUM, critical_z
from anomaly.experiments.file import Experiment, Guardrail, Primary
from anomaly.experiments.metrics import RATIOS, Ratio


class Pair(NamedTuple):
    """The same n vehicles by what the acting model did, and by what the shadow would have done."""

    acting: Mapping[str, Values]
    shadow: Mapping[str, Values]


def compare_pairs(experiment: Experiment, acting: Vehicles, shadow: Vehicles, beside: Beside | None) -> Comparison:
    """Compare the shadow with the acting model by the vehicles of the shadow's arm.

    Both tables have the same vehicles in the same order, with their arms. In the comparison the control is what
    acted on these vehicles and the treatment what the shadow would have done; the split is that of the assignment.
    """
    place = experiment.arms.index(experiment.treatment)
    own = np.flatnonzero(acting.arm == place)
    plain = compare(experiment, _stacked(experiment, acting, shadow, own))
    pair = Pair(*({name: column[own] for name, column in side.sums.items()} for side in (acting, shadow)))
    asked: list[Primary | Guardrail] = [experiment.primary, *experiment.guardrails]
    readings = [_paired(*each, pair) for each in zip(plain.readings, asked, strict=True)]
    return msgspec.structs.replace(
        plain,
        readings=readings,
        split=compare(experiment, acting).split,
        slices=[msgspec.structs.replace(one, vehicles=one.vehicles // 2) for one in plain.slices],
        beside=beside,
    )


def _stacked(experiment: Experiment, acting: Vehicles, shadow: Vehicles, own: NDArray[np.int64]) -> Vehicles:
    """The vehicles twice: as the control by what acted, as the treatment by the shadow."""
    import pyarrow as pa

    places = [experiment.arms.index(arm) for arm in (experiment.control, experiment.treatment)]
    names = acting.names.take(pa.array(own))
    return Vehicles(
        pa.concat_arrays([names, names]),
        np.repeat(np.array(places, np.int8), len(own)),
        {name: np.concatenate([acting.sums[name][own], shadow.sums[name][own]]) for name in acting.sums},
        {field: (np.tile(codes[own], 2), words) for field, (codes, words) in acting.fields.items()},
    )


def _paired(plain: Reading, asked: Primary | Guardrail, pair: Pair) -> Reading:
    """`plain` with what can be concluded from pairs in place of what could be from arms."""
    ratio, harm = RATIOS[asked.metric], plain.harm
    low = high = log_e = None
    if asked.method == "first_event":
        had = [side[ratio.event or ratio.over] > 0 for side in pair]
        harm, log_e = _first_events(had[0], had[1], plain.limit)
    elif harm is not None:
        found = _betted(pair, plain.alpha) if asked.method == "betting" else _bounds(pair, ratio, asked, plain.alpha)
        if found is not None:
            low, high = sorted(ratio.scale * bound * (1.0 if ratio.better == "lower" else -1.0) for bound in found)
    low, high = rounded(low), rounded(high)
    least = asked.min_events if isinstance(asked, Guardrail) else MIN_EVENTS
    enough = plain.control_events + plain.treatment_events >= least
    return msgspec.structs.replace(
        plain,
        harm=harm,
        low=low,
        high=high,
        log_e=log_e,
        result=result_of((low, high), log_e, plain.limit, plain.log_needed) if enough else "inconclusive",
    )


def _bounds(pair: Pair, ratio: Ratio, asked: Primary | Guardrail, alpha: float) -> tuple[float, float] | None:
    """The interval for the ratio of the differences to what they are divided by."""
    d, under = pair.shadow[ratio.over] - pair.acting[ratio.over], pair.acting[ratio.under]
    squares = float((d**2).sum())
    events = float(np.abs(d).sum()) ** 2 / squares if squares else 0.0
    if events < MIN_EVENTS or len(d) < 2 or under.sum() <= 0:
        return None
    value = float(d.sum() / under.sum())
    error = float(((d - value * under) / under.mean()).std(ddof=1)) / len(d) ** 0.5
    if asked.method == "fixed":
        width = NormalDist().inv_cdf(1.0 - alpha / 2.0) * error
    else:
        width = critical_z(events / 4.0, OPTIMUM, alpha) * error
    return value - width, value + width


def _betted(pair: Pair, alpha: float) -> tuple[float, float]:
    """The difference in the share of vehicles whose first fault was found, in the order in which it became known."""
    when = pair.acting["first_fault"]
    ill = np.flatnonzero(np.isfinite(when))
    order = ill[np.argsort(when[ill], kind="stable")]
    return betting.paired_interval((pair.shadow["first_detected"] - pair.acting["first_detected"])[order], alpha)


def _first_events(acting: NDArray[np.bool_], shadow: NDArray[np.bool_], max_harm: float) -> tuple[float | None, float]:
    """The relative excess of vehicles with an event, and ln E that it is above `max_harm`."""
    control, treatment = int(acting.sum()), int(shadow.sum())
    counted = int((shadow & ~acting).sum()), int((shadow != acting).sum())
    if max_harm > 0.0:
        counted = treatment, control + treatment
    log_e = first_event.log_e_harm(*counted, 0.5, 1.0 + max_harm)
    return rounded(treatment / control - 1.0) if control else None, float(np.clip(log_e, -1e6, 1e6))
