"""The ten stories of the simulator, each with the winner named beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from anomaly.engine.frame import Frame
from anomaly.simulator import SCENARIOS, scenario
from training.suites.baselines import at_budget, gaussian_adapting, look
from training.suites.case import Case
from training.suites.rows import PARTS, PRODUCT, Line, lines
from training.suites.simulated import divided, judged, simulated_past
from training.suites.slices import slices
from training.suites.tally import Costs
from training.suites.verdict import (
    Claim,
    Measured,
    Row,
    Verdict,
    at_least,
    at_most,
    base_rate,
    differences_of,
    measure,
    refusals,
    row_of,
    rows_of,
    slices_of,
)
from training.suites.workers import Said, Task, run

SEEDS = range(1, 6)
VEHICLES = 200
OFFLINE, ONLINE = "offline only", "online only"
STORIES = tuple(name for name in SCENARIOS if len(name) == 1)


class Expected(NamedTuple):
    """One thing that is expected of a scenario, written down before it was run: a figure and its bound."""

    what: str
    figure: Callable[[Row, Row, Row], float]
    bound: float
    least: bool = True


def _ahead(other: int, figure: str) -> Callable[[Row, Row, Row], float]:
    """How far the product is ahead of the offline (1) or online row (2)."""

    def value(*rows: Row) -> float:
        return float(getattr(rows[0], figure).value - getattr(rows[other], figure).value)

    return value


def _quieter(other: int) -> Callable[[Row, Row, Row], float]:
    """The false alarms of another row over the product's, which count as at least 0.5."""
    return lambda *rows: rows[other].false_alarms.value / max(rows[0].false_alarms.value, 0.5)


def _calmer(other: int) -> Callable[[Row, Row, Row], float]:
    """The share of healthy time in alarm of another row over the product's, which counts as at least 0.01 %."""
    return lambda *rows: rows[other].time_in_alarm.value / max(rows[0].time_in_alarm.value, 1e-4)


def _alarms(product: Row, _offline: Row, _online: Row) -> float:
    return product.false_alarms.value


def _detected(product: Row, _offline: Row, _online: Row) -> float:
    return product.detected.value


EXPECTED: dict[str, tuple[Expected, ...]] = {
    "A": (
        Expected("found, against offline only", _ahead(1, "detected"), -0.05),
        Expected("lead in days, against online only", _ahead(2, "lead"), 0.0),
    ),
    "B": (Expected("found, against offline only", _ahead(1, "detected"), 0.05),),
    "C": (Expected("found, against online only", _ahead(2, "detected"), 0.2),),
    "D": (
        Expected("healthy time in alarm of offline only, times the product's", _calmer(1), 3.0),
        Expected("found", _detected, 0.5),
    ),
    "E": (
        Expected("false alarms", _alarms, 2.0, least=False),
        Expected("healthy time in alarm of offline only, times the product's", _calmer(1), 1.0),
    ),
    "F": (Expected("found, against online only", _ahead(2, "detected"), 0.0),),
    "G": (Expected("found, against online only", _ahead(2, "detected"), 0.2),),
    "H": (Expected("lead in days, against online only", _ahead(2, "lead"), 0.0),),
    "I": (
        Expected("healthy time in alarm of offline only, times the product's", _calmer(1), 2.0),
        Expected("false alarms of online only, times the product's", _quieter(2), 2.0),
    ),
    "J": (Expected("false alarms", _alarms, 1.5, least=False),),
}
"""Medians over the seeds; bounds are the margins, written down before the first run. What offline only does in D, E and
I was first counted in episodes: a storm that lasts for weeks is a single one, so that its time is what counts."""


def simulated(costs: Costs, said: Said) -> list[Verdict]:
    """All ten scenarios, 200 vehicles each, five seeds."""
    tasks = [Task(f"scenario {name}, seed {s}", story, (name, s, costs)) for name in STORIES for s in SEEDS]
    done = run(tasks, said)
    return [verdict(name, [done[f"scenario {name}, seed {s}"] for s in SEEDS], costs) for name in STORIES]


def story(name: str, seed: int, costs: Costs, vehicles: int = VEHICLES) -> Measured:
    """One scenario with one seed: every row, judged on vehicles and days that were not trained on."""
    config = scenario(name, vehicles=vehicles)
    past = simulated_past(config, seed)
    case = divided(past, config, seed)
    rows = (judged(case, line) for line in lines(case, (1.0,), more=_online))
    kept = case._replace(test=case.test.of(case.split.test))
    return measure(kept, seed, rows, costs, slices(kept, past.events, past.labels))


def _online(case: Case, frame: Frame) -> Iterator[Line]:
    """What each vehicle learns by itself, without anything from offline but the scale of its signals."""
    offline = next(part for part in PARTS if part.name == OFFLINE)
    changed = offline.change(case) or case
    both = look(changed, offline.frame(frame) if offline.frame else frame)
    yield Line(ONLINE, 1.0, at_budget(both, gaussian_adapting(both), 1.0))


def verdict(name: str, measured: Sequence[Measured], costs: Costs) -> Verdict:
    """The table of a scenario, and whether who was expected to win did."""
    rows = rows_of(measured, costs)
    three = (row_of(rows, PRODUCT), row_of(rows, OFFLINE), row_of(rows, ONLINE))
    return Verdict(
        suite=f"fleet {name}",
        about=SCENARIOS[name][0],
        unit="vehicle-days",
        budget=1.0,
        splits=len(measured),
        rows=rows,
        differences=differences_of(measured, 1.0, costs),
        claims=[_claim(one, one.figure(*three)) for one in EXPECTED[name]],
        slices=slices_of(measured, costs),
        timelines=measured[0].timelines,
        notes=refusals(measured),
        base_rate=base_rate(measured),
    )


def _claim(one: Expected, value: float) -> Claim:
    return (at_least if one.least else at_most)(one.what, value, one.bound)
