"""What a shadow would have done beside the model that acts, in figures and examples for a person to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
SHOWN = 20
"""So many examples, and so many vehicles, are shown."""
RESAMPLES, GROUPS = 1_000, 20_000
"""Resamples of the bootstrap; beyond so many vehicles it is groups of them that are drawn."""
LEVEL = 0.95


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of both; `difference` is shadow - acting, with its interval; None where nothing divides it."""

    name: str
    acting: float | None
    shadow: float | None
    difference: float | None
    low: float | None
    high: float | None


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that only one of the two would alarm for; `label` is what was found of the vehicle at that time."""

    vehicle: str
    ts: int
    alarms: Literal["acting", "shadow"]
    level: float
    shadow_level: float
    signals: list[str]
    label: str | None = None


class Apart(msgspec.Struct, frozen=True, kw_only=True):
    """A vehicle on which the two differ; `cost` is what the shadow would have added, below 0 saved."""

    vehicle: str
    compared: int
    agreement: float
    acting_episodes: int
    shadow_episodes: int
    cost: float


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """The shadow beside the acting model: `compared` decisions of `vehicles`, and the share in which both say the same.

    `figures` have intervals of 95 % at this look, by resampling vehicles; verdicts come from the readings alone.
    """

    vehicles: int
    compared: int
    agreement: float | None
    low: float | None
    high: float | None
    figures: list[Figure]
    apart: list[Apart]
    examples: list[Example] = []


class Sums(NamedTuple):
    """By vehicle, float64[n]: `compared` decisions, `differing` among them, and the sums of either side by name.

    A side has alarms, alerts, alone (episodes that meet none of the other), false_alarms, detected, lead_days, cost.
    `under` has days, mature_days, faults.
    """

    names: Sequence[str]
    compared: Values
    differing: Values
    acting: Mapping[str, Values]
    shadow: Mapping[str, Values]
    under: Mapping[str, Values]


_FIGURES = (
    ("decisions in alarm, of 1,000", "alarms", "compared", 1_000.0),
    ("alarm episodes in 1,000 vehicle-days", "alerts", "days", 1_000.0),
    ("episodes that the other does not have, in 1,000 vehicle-days", "alone", "days", 1_000.0),
    ("false alarms in 1,000 vehicle-days", "false_alarms", "mature_days", 1_000.0),
    ("detected, of the confirmed faults", "detected", "faults", 1.0),
    ("lead, vehicle-days a fault", "lead_days", "faults", 1.0),
    ("cost of a vehicle", "cost", "one", 1.0),
    ("cost in all", "cost", "one", 0.0),
)


def beside(sums: Sums, examples: Sequence[Example]) -> Beside:
    """Figures, the vehicles that differ most, and `examples`. The same sums give the same figures."""
    compared = float(sums.compared.sum())
    drawn = _resampled(sums)
    same = [1.0 - differing / all_of_them for differing, all_of_them in drawn["agreement"] if all_of_them]
    low, high = _middle(np.array(same))
    return Beside(
        vehicles=len(sums.names),
        compared=int(compared),
        agreement=_short(1.0 - sums.differing.sum() / compared) if compared else None,
        low=low,
        high=high,
        figures=list(_figures(sums, drawn)),
        apart=_apart(sums),
        examples=list(examples),
    )


def _columns(sums: Sums) -> dict[str, tuple[Values, Values, Values]]:
    """Name to (acting, shadow, what both are divided by) by vehicle."""
    one = np.ones(len(sums.names))
    under = {**sums.under, "compared": sums.compared, "one": one}
    return {name: (sums.acting[over], sums.shadow[over], under[below]) for name, over, below, _ in _FIGURES}


def _resampled(sums: Sums) -> dict[str, Values]:
    """The sums of each resample of the vehicles: name to [resamples, 3] as in `_columns`, and `agreement` [., 2].

    Each vehicle is in a resample a Poisson(1) number of times (the bootstrap of sums; Hanley & MacGibbon 2006). Of very
    many vehicles groups are, each of as many: the variance of a sum of what is independent is that of its parts.
    """
    columns = _columns(sums)
    table = np.column_stack(
        [sums.differing, sums.compared, *(column for three in columns.values() for column in three)]
    )
    groups = max(1, min(len(table), GROUPS))
    group = np.arange(len(table)) % groups
    table = np.column_stack([np.bincount(group, column, minlength=groups) for column in table.T])
    rng = np.random.default_rng(0)
    step = RESAMPLES // 5
    parts = [rng.poisson(1.0, (step, groups)) @ table for _ in range(0, RESAMPLES, step)]
    drawn = np.asarray(np.concatenate(parts), np.float64)
    found: dict[str, Values] = {name: drawn[:, 2 + 3 * place : 5 + 3 * place] for place, name in enumerate(columns)}
    return found | {"agreement": drawn[:, :2]}


def _figures(sums: Sums, drawn: Mapping[str, Values]) -> Iterator[Figure]:
    for name, (acting, shadow, under) in _columns(sums).items():
        scale = next(each[3] for each in _FIGURES if each[0] == name) or float(len(sums.names))
        below = float(under.sum())
        values = [scale * float(side.sum()) / below if below else None for side in (acting, shadow)]
        known = drawn[name][drawn[name][:, 2] > 0]
        low, high = _middle(scale * (known[:, 1] - known[:, 0]) / known[:, 2]) if below else (None, None)
        yield Figure(
            name=name,
            acting=_short(values[0]),
            shadow=_short(values[1]),
            difference=None if values[0] is None or values[1] is None else _short(values[1] - values[0]),
            low=low,
            high=high,
        )


def _middle(values: Values) -> tuple[float | None, float | None]:
    """The interval that holds LEVEL of the values."""
    if not len(values):
        return None, None
    low, high = np.quantile(values, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return _short(low), _short(high)


def _apart(sums: Sums) -> list[Apart]:
    """The vehicles that differ, those whose cost differs most first."""
    cost = sums.shadow["cost"] - sums.acting["cost"]
    order = np.lexsort((-sums.differing, -np.abs(cost)))
    rows = [row for row in order[:SHOWN].tolist() if sums.differing[row] or cost[row]]
    return [
        Apart(
            vehicle=sums.names[row],
            compared=int(sums.compared[row]),
            agreement=_short(1.0 - sums.differing[row] / max(sums.compared[row], 1.0)) or 0.0,
            acting_episodes=int(sums.acting["alerts"][row]),
            shadow_episodes=int(sums.shadow["alerts"][row]),
            cost=float(cost[row]),
        )
        for row in rows
    ]


def _short(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)
