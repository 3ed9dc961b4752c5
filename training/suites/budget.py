"""Is the budget of false alarms kept? Fleets with a season and unlike vehicles, which nothing was chosen on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from anomaly.simulator import SimulationConfig, scenario
from training.suites.baselines import BASELINES, always, at_budget, look
from training.suites.case import Case, train_and_test
from training.suites.rows import ALWAYS, PRODUCT, Line, cohortless
from training.suites.simulated import VALIDATION, divided, judged, simulated_past
from training.suites.slices import slices
from training.suites.tally import COLUMNS, Costs
from training.suites.verdict import (
    Claim,
    Measured,
    Verdict,
    at_least,
    base_rate,
    differences_of,
    measure,
    refusals,
    rows_of,
    slices_of,
)
from training.suites.workers import Said, Task, run

FIRST_SEED = 1_000
BUDGET = 1.0
FACTOR, SHARE, EXPECTED = 1.5, 0.9, 100.0
"""The false alarms obtained are those asked for within this factor, in this share of the fleets (18 of 20), each with
so many episodes expected that chance moves the ratio by a tenth."""


class Size(NamedTuple):
    """How many fleets there are, and how many vehicles of each are judged for a year."""

    fleets: int = 20
    vehicles: int = 500


def budget(size: Size, costs: Costs, said: Said) -> list[Verdict]:
    """Fleets with seeds of their own, each trained on in one year and judged, on other vehicles, in the next."""
    seeds = range(FIRST_SEED, FIRST_SEED + size.fleets)
    tasks = [Task(f"fleet {seed}", budget_fleet, (seed, size.vehicles, costs)) for seed in seeds]
    measured = list(run(tasks, said).values())
    verdict = Verdict(
        suite="budget",
        about=f"{size.fleets} simulated fleets with a season, of vehicles unlike each other; {size.vehicles} vehicles "
        "of each are judged for a year, four readings a day, after a year in which others were trained on",
        unit="vehicle-days",
        budget=BUDGET,
        splits=len(measured),
        rows=rows_of(measured, costs),
        differences=differences_of(measured, BUDGET, costs),
        claims=claims(measured),
        slices=slices_of(measured, costs),
        timelines=measured[0].timelines,
        notes=[*(_ratio_note(one) for one in measured), *refusals(measured)],
        base_rate=base_rate(measured),
    )
    return [verdict]


def budget_fleet(seed: int, vehicles: int, costs: Costs) -> Measured:
    """One fleet: the product and the rows without it at the budget."""
    config = fleet_config(vehicles)
    past = simulated_past(config, seed)
    case = divided(past, config, seed).at(BUDGET)
    kept = case._replace(test=case.test.of(case.split.test))
    return measure(kept, seed, _rows(case), costs, slices(kept, past.events, past.labels))


def fleet_config(vehicles: int) -> SimulationConfig:
    """Two years of so large a fleet that `vehicles` of it are judged: everyday faults and nuisances, a whole season."""
    everybody = round(vehicles / (1.0 - VALIDATION))
    return scenario("B", vehicles=everybody, days=730, train_share=0.5, season=1.0, upkeep=0.3)


def _rows(case: Case) -> list[Line]:
    played, trained = train_and_test(case)
    both = look(case, cohortless(trained.frame))
    others = [Line(name, BUDGET, at_budget(both, score(both), BUDGET)) for name, score in BASELINES.items()]
    every = [Line(PRODUCT, BUDGET, played), *others, Line(ALWAYS, BUDGET, always(both))]
    return [judged(case, line) for line in every]


class Kept(NamedTuple):
    """Episodes that the budget allows in the healthy time of the judged vehicles, and those that came."""

    expected: float
    obtained: float

    @property
    def ratio(self) -> float:
        """How many times the budget was used; infinite where alarms came and none was allowed."""
        return self.obtained / self.expected if self.expected else float("inf")


def kept(one: Measured) -> Kept:
    """What became of the budget in one fleet."""
    sums = np.array(one.tallies[PRODUCT, BUDGET]).sum(axis=0)
    days, episodes = (float(sums[COLUMNS.index(name)]) for name in ("days", "episodes"))
    return Kept(BUDGET * days / 1_000.0, episodes)


def claims(measured: Sequence[Measured]) -> list[Claim]:
    """The share of fleets that are within the factor, and whether each could show it."""
    found = [kept(one) for one in measured]
    within = float(np.mean([1.0 / FACTOR <= one.ratio <= FACTOR for one in found]))
    fewest = min(one.expected for one in found)
    return [
        at_least(f"share of fleets with false alarms within a factor of {FACTOR:g} of the budget", within, SHARE),
        at_least("episodes expected, in the fleet with the fewest", fewest, EXPECTED),
    ]


def _ratio_note(one: Measured) -> str:
    found = kept(one)
    return (
        f"fleet {one.split}: {found.obtained:.0f} false alarms, {found.expected:.0f} asked for: {found.ratio:.2f} times"
    )
