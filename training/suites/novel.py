"""A kind of fault that no label has named: is it found as it would be, had the history shown it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from anomaly.engine.frame import Frame
from anomaly.feedback.history import Past as Readings
from anomaly.feedback.history import stretches
from anomaly.simulator import SimulationConfig, scenario
from anomaly.simulator.config import Kind
from anomaly.simulator.faults import CODES, SUDDEN
from anomaly.telemetry.records import Label
from training.history import make_history
from training.suites.baselines import at_budget, label_term_alone, look
from training.suites.case import Case, train_and_test
from training.suites.own import Past
from training.suites.rows import PARTS, PRODUCT, Line, lines
from training.suites.simulated import divided, judged, simulated_past
from training.suites.slices import slices
from training.suites.tally import COLUMNS, Costs, Floats
from training.suites.verdict import (
    Claim,
    Measured,
    Verdict,
    at_least,
    base_rate,
    differences_of,
    measure,
    refusals,
    row_of,
    rows_of,
    slices_of,
)
from training.suites.workers import Said, Task, run

GRADUAL: tuple[Kind, ...] = tuple(kind for place, kind in enumerate(CODES) if place not in SUDDEN)
"""One split for each: the kind that the history names."""
VEHICLES = 240
ALL_LABELS, ALONE = "product, all labels", "label term alone"
LEFT_OUT = ("no label term",)
STILL_FOUND, LEAD_KEPT, BEHIND = 0.95, 0.90, 0.05
"""Written down before the first run: how much of what all labels find, and of its lead, is left with one kind named,
and by how much of the faults the label term alone falls behind."""


def novel(costs: Costs, said: Said) -> list[Verdict]:
    """Fleets in whose history one gradual kind of fault is named, and in whose future all others come."""
    tasks = [Task(f"only {kind} named", novel_split, (kind, costs)) for kind in GRADUAL]
    measured = list(run(tasks, said).values())
    verdict = Verdict(
        suite="novel",
        about="simulated fleets: labels of one kind of fault to train with, faults of the other gradual kinds to find",
        unit="vehicle-days",
        budget=1.0,
        splits=len(measured),
        rows=rows_of(measured, costs),
        differences=differences_of(measured, 1.0, costs),
        claims=claims(measured, costs),
        slices=slices_of(measured, costs),
        timelines=measured[0].timelines,
        notes=["of faults of other kinds the history says when, and no more (`unknown`)", *refusals(measured)],
        base_rate=base_rate(measured),
    )
    return [verdict]


def novel_split(kind: Kind, costs: Costs, vehicles: int = VEHICLES) -> Measured:
    """One fleet: `product` has labels of `kind` alone, another row of the same model has all of them."""
    seed, config = 1 + GRADUAL.index(kind), fleet_config(kind, vehicles)
    past = simulated_past(config, seed)
    told = divided(past, config, seed)
    case = divided(only(past, kind, config.train_until_ms), config, seed)
    kept = case._replace(test=case.test.of(case.split.test))
    rows = (judged(case, line) for line in _rows(case, told))
    return measure(kept, seed, rows, costs, slices(kept, past.events, past.labels))


def fleet_config(kind: Kind, vehicles: int) -> SimulationConfig:
    """A calm fleet with faults of every gradual kind in its history, and of all but `kind` after it."""
    others = tuple(other for other in GRADUAL if other != kind)
    return scenario("A", vehicles=vehicles, spread=1.0, strength=1.0, faults=0.5, abrupt=0.0, kinds=others,
                    history_faults=0.4, history_kinds=GRADUAL)  # fmt: skip


def only(past: Past, kind: Kind, until: int) -> Past:
    """The same past, in which no label that ends before `until` names another kind: such a label says `unknown`, of the
    time from which on its vehicle does not count as healthy."""
    whole = make_history(past.fleet, past.batch, past.events, past.labels, [])
    told = (Readings.of(past.batch), past.labels, whole.restarts, past.fleet.history)
    begin = {(stretch.vehicle, stretch.end): stretch.unknown for stretch in stretches(*told)}

    def lessened(label: Label) -> Label:
        if label.code == kind or label.end >= until:
            return label
        start = min(begin.get((label.vehicle, label.end), label.start), label.start)
        return msgspec.structs.replace(label, start=start, verdict="unknown", code=None)

    return past._replace(labels=[lessened(label) for label in past.labels])


def _rows(case: Case, told: Case) -> Iterator[Line]:
    parts = tuple(part for part in PARTS if part.name in LEFT_OUT)
    yield from lines(case, (1.0,), parts, _alone)
    yield Line(ALL_LABELS, 1.0, train_and_test(told.at(1.0))[0])


def _alone(case: Case, frame: Frame) -> Iterator[Line]:
    both = look(case, frame)
    yield Line(ALONE, 1.0, at_budget(both, label_term_alone(both), 1.0))


def claims(measured: Sequence[Measured], costs: Costs) -> list[Claim]:
    """What one kind named leaves of what all labels find, and that labels alone do not do it."""
    one, every = (np.vstack([np.array(m.tallies[row, 1.0]) for m in measured]) for row in (PRODUCT, ALL_LABELS))
    rows = rows_of(measured, costs)
    ahead = row_of(rows, PRODUCT).detected.value - row_of(rows, ALONE).detected.value
    both = np.minimum(_column(one, "detected"), _column(every, "detected")).sum()
    return [
        at_least("of the faults that are found with all labels, found", _share(both, every, "detected"), STILL_FOUND),
        at_least("of the lead with all labels", _share(_column(one, "lead").sum(), every, "lead"), LEAD_KEPT),
        at_least("of the running lead", _share(_column(one, "running").sum(), every, "running"), LEAD_KEPT),
        at_least("share found, above the label term alone", ahead, BEHIND),
    ]


def _column(tallies: Floats, name: str) -> Floats:
    return np.asarray(tallies[:, COLUMNS.index(name)])


def _share(part: float, whole: Floats, name: str) -> float:
    return float(part / _column(whole, name).sum())
