"""The statistics of experiments on thousands of simulated ones: do they err as seldom as they say, and find enough?

Every figure comes from the functions that the controller calls. Beside them stand two ways of looking that must
fail: readings counted as if they were independent, and the confidence sequence without its gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Literal

import msgspec
import numpy as np

from anomaly.experiments import betting, confidence_sequence, first_event, fixed_horizon
from anomaly.experiments.confidence_sequence import Arm, critical_z, estimate
from training.experiments.worlds import Run, common, panel, rare

ALPHA = 0.05
LOOKS = 60
VEHICLES = 6_000
Demand = tuple[Literal["at most", "at least", "above", "reported"], float]
Stops = dict[str, float]
"""By method, after which part of the run it rejected (0 to 1]; infinity: never."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One method in one world: how often it rejected, after how many vehicles in the median, what is demanded."""

    world: str
    method: str
    runs: int
    rejected: float
    median_vehicles: float | None
    demand: Literal["at most", "at least", "above", "reported"]
    bound: float
    met: bool


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A world, how one run of it is judged, and what each method must come to."""

    name: str
    judge: Callable[[int], Stops]
    vehicles: int
    demands: dict[str, Demand]


def verify(runs: int, workers: int = 1) -> list[Figure]:
    """Every case `runs` times, in processes of their own where there are several `workers`; seeded."""
    figures: list[Figure] = []
    for case in cases():
        stops = _judged(case, runs, workers)
        found = {method: np.array([stop[method] for stop in stops]) for method in stops[0]}
        figures += [_figure(case, method, values) for method, values in found.items()]
    return [*figures, _cuped_is_faster(figures)]


def cases() -> list[Case]:
    """All worlds: nulls with their controls, effects that must be found, a broken split, coverage."""
    methods = ("sequence", "sequence, CUPED", "betting", "first event", "one read-out")
    null: dict[str, Demand] = dict.fromkeys(methods, ("at most", ALPHA))
    harmless: dict[str, Demand] = {**null, "first event, harm": ("at most", ALPHA)}
    ungated: dict[str, Demand] = {**harmless, "without the gate": ("above", 0.2)}
    power: dict[str, Demand] = {"sequence": ("at least", 0.95), "sequence, CUPED": ("at least", 0.95)}
    found: dict[str, Demand] = {"split": ("at least", 0.95)}
    kept: dict[str, Demand] = {"split": ("at most", 0.001)}
    return [
        Case(name="no effect, common, 50/50", judge=partial(_common, 0.5, 0.0), vehicles=VEHICLES, demands=null),
        Case(name="no effect, common, 10/90", judge=partial(_common, 0.1, 0.0), vehicles=VEHICLES, demands=null),
        Case(name="no effect, rare 1 %, 50/50", judge=partial(_rare, 0.5, 0.0), vehicles=VEHICLES, demands=harmless),
        Case(name="no effect, rare 1 %, 10/90", judge=partial(_rare, 0.1, 0.0), vehicles=VEHICLES, demands=ungated),
        Case(
            name="no effect, 2,000 vehicles watched for 90 days",
            judge=_panel,
            vehicles=2_000,
            demands={"sequence": ("at most", ALPHA), "readings as units": ("above", 0.5)},
        ),
        Case(name="20 % fewer false alarms", judge=partial(_common, 0.5, -0.2), vehicles=VEHICLES, demands=power),
        Case(name="harm of 1 % doubled, 10/90", judge=partial(_rare, 0.1, 1.0), vehicles=VEHICLES, demands={}),
        Case(name="a split of 52/48", judge=partial(_split, 0.52), vehicles=22_000, demands=found),
        Case(name="a split of 50/50", judge=partial(_split, 0.5), vehicles=22_000, demands=kept),
        Case(
            name="the true difference left out at any look",
            judge=_covered,
            vehicles=VEHICLES,
            demands={"sequence": ("at most", ALPHA), "betting": ("at most", ALPHA)},
        ),
    ]  # fmt: skip


def _judged(case: Case, runs: int, workers: int) -> list[Stops]:
    if workers == 1:
        return [case.judge(seed) for seed in range(runs)]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(case.judge, range(runs), chunksize=max(1, runs // (8 * workers))))


def _figure(case: Case, method: str, stops: np.ndarray) -> Figure:
    runs, rejected = len(stops), float(np.isfinite(stops).mean())
    demand, bound = case.demands.get(method, ("reported", 0.0))
    median = float(np.median(stops))
    slack = 2.0 * math.sqrt(bound * (1.0 - bound) / runs)
    met = {
        "at most": rejected <= bound + slack,
        "at least": rejected >= bound - slack,
        "above": rejected > bound,
        "reported": True,
    }
    return Figure(
        world=case.name,
        method=method,
        runs=runs,
        rejected=rejected,
        median_vehicles=round(median * case.vehicles) if math.isfinite(median) else None,
        demand=demand,
        bound=bound,
        met=met[demand],
    )


def _cuped_is_faster(figures: Sequence[Figure]) -> Figure:
    found = {figure.method: figure for figure in figures if figure.world == "20 % fewer false alarms"}
    plain, adjusted = found["sequence"].median_vehicles, found["sequence, CUPED"].median_vehicles
    ratio = (adjusted or math.inf) / (plain or math.inf) if plain else math.inf
    return Figure(
        world="20 % fewer false alarms",
        method="CUPED's median over the plain one",
        runs=found["sequence"].runs,
        rejected=round(ratio, 3),
        median_vehicles=adjusted,
        demand="at most",
        bound=1.0,
        met=ratio < 1.0,
    )


def _looks(vehicles: int) -> list[int]:
    return [round(vehicles * (look + 1) / LOOKS) for look in range(LOOKS)]


def _first(rejects: Callable[[int], bool], vehicles: int) -> float:
    """After which part of the vehicles the first look rejects."""
    return next((look / vehicles for look in _looks(vehicles) if rejects(look)), math.inf)


def _arms(run: Run, look: int, adjusted: bool) -> tuple[Arm, Arm]:
    treated = run.treated[:look]
    width = int(adjusted)
    return tuple(  # type: ignore[return-value]  # two of them
        Arm(run.outcome[:look][own], np.ones(int(own.sum())), run.before[:look][own][:, None][:, :width])
        for own in (treated, ~treated)
    )


def _outside(run: Run, look: int, adjusted: bool = False, truth: float = 0.0) -> bool:
    found = confidence_sequence.interval(*_arms(run, look, adjusted), ALPHA)
    return found is not None and not found[0] <= truth <= found[1]


def _ungated(run: Run, look: int) -> bool:
    """As it is done elsewhere: intrinsic time in vehicles, no event asked for, after 200 vehicles."""
    found = estimate(*_arms(run, look, adjusted=False))
    return look >= 200 and abs(found.difference) > critical_z(look, VEHICLES / 2, ALPHA) * max(found.error, 1e-12)


def _betted(run: Run, share: float, most: float, truth: float = 0.0) -> float:
    w = betting.stakes(run.outcome / most, run.treated, share)
    null = np.array([0.5 + min(share, 1.0 - share) / 2.0 * truth])
    return _part(betting.log_capital(w, null, ALPHA)[:, 0] >= -math.log(ALPHA))


def _by_first_event(run: Run, share: float, harm: bool = False) -> float:
    event = run.outcome > 0
    n, k = event.cumsum(), (event & run.treated).cumsum()
    found = (
        first_event.log_e_harm(k, n, share) if harm else first_event.log_e(k, n, share, first_event.Prior.around(share))
    )
    return _part(found >= -math.log(ALPHA))


def _part(rejects: np.ndarray) -> float:
    return (int(rejects.argmax()) + 1) / len(rejects) if rejects.any() else math.inf


def _read_once(run: Run) -> float:
    found = fixed_horizon.interval(*_arms(run, len(run.outcome), adjusted=False), ALPHA)
    return 1.0 if found is not None and not found[0] <= 0.0 <= found[1] else math.inf


def _common(share: float, effect: float, seed: int) -> Stops:
    run = common(np.random.default_rng([1, seed]), VEHICLES, share, effect)
    return {
        "sequence": _first(lambda look: _outside(run, look), VEHICLES),
        "sequence, CUPED": _first(lambda look: _outside(run, look, adjusted=True), VEHICLES),
        "betting": _betted(run, share, 14.0),
        "one read-out": _read_once(run),
    }


def _rare(share: float, effect: float, seed: int) -> Stops:
    run = rare(np.random.default_rng([2, seed]), VEHICLES, share, 0.01, effect)
    return {
        "sequence": _first(lambda look: _outside(run, look), VEHICLES),
        "betting": _betted(run, share, 1.0),
        "first event": _by_first_event(run, share),
        "first event, harm": _by_first_event(run, share, harm=True),
        "one read-out": _read_once(run),
        "without the gate": _first(lambda look: _ungated(run, look), VEHICLES),
    }


def _panel(seed: int) -> Stops:
    """Looks on every day from the 7th on."""
    world = panel(np.random.default_rng([3, seed]))
    cumulated = world.events.cumsum(axis=1)
    vehicle = event = math.inf
    days = world.events.shape[1]
    for day in range(7, days + 1):
        arms = [Arm(cumulated[own, day - 1], np.full(own.sum(), float(day)), np.zeros((own.sum(), 0)))
                for own in (world.treated, ~world.treated)]  # fmt: skip
        found = confidence_sequence.interval(arms[0], arms[1], ALPHA)
        if found is not None and not found[0] <= 0.0 <= found[1]:
            vehicle = min(vehicle, day / days)
        if _readings_as_units(arms):
            event = min(event, day / days)
    return {"sequence": vehicle, "readings as units": event}


def _readings_as_units(arms: Sequence[Arm], a_day: float = 20.0) -> bool:
    """The two-proportion z-test over readings, 20 a day: the wrong unit."""
    k = np.array([arm.over.sum() for arm in arms])
    n = np.array([arm.under.sum() * a_day for arm in arms])
    pooled = k.sum() / n.sum()
    return bool(abs(k[0] / n[0] - k[1] / n[1]) > 1.96 * math.sqrt(pooled * (1 - pooled) * (1 / n).sum()))


def _split(share: float, seed: int) -> Stops:
    treated = np.random.default_rng([4, seed]).random(22_000) < share
    n = np.arange(1, len(treated) + 1)
    return {"split": _part(first_event.log_e_split(treated.cumsum(), n, 0.5) >= -math.log(0.001))}


def _covered(seed: int) -> Stops:
    """The sequence on 20 % fewer events of 14 days, betting on a rate of 5 % doubled."""
    often = common(np.random.default_rng([5, seed]), VEHICLES, 0.5, -0.2)
    seldom = rare(np.random.default_rng([6, seed]), VEHICLES, 0.5, 0.05, 1.0)
    return {
        "sequence": _first(lambda look: _outside(often, look, truth=TRUE_DIFFERENCE), VEHICLES),
        "betting": _betted(seldom, 0.5, 1.0, truth=0.05),
    }


def _mean_of_common(effect: float) -> float:
    """E min(Poisson(14 rate (1 + effect)), 14) for rate ~ Gamma(1/2, 0.4): a negative binomial, cut at 14."""
    from scipy.stats import nbinom

    scale = 0.4 * 14.0 * (1.0 + effect)
    counts = np.arange(14)
    return float(14.0 - (nbinom.pmf(counts, 0.5, 1.0 / (1.0 + scale)) * (14.0 - counts)).sum())


TRUE_DIFFERENCE = _mean_of_common(-0.2) - _mean_of_common(0.0)
