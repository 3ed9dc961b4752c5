"""What a suite says in the end: rows with intervals, differences, slices, claims, and timelines to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.feedback.history import FAULT, HEALTHY, UNKNOWN
from training.figures import Decided, Fault
from training.suites.case import Case, Played
from training.suites.nab_score import NabRow
from training.suites.rows import ALWAYS, PRODUCT, Line
from training.suites.tally import COLUMNS, Costs, Estimate, difference, estimates, figures_of, tally

Floats = NDArray[np.float64]
POINTS = 400
SHOWN = 3


class Slice(NamedTuple):
    """A part of the test readings: `chosen` bool[n] over the rows of `case.test.batch`."""

    name: str
    chosen: NDArray[np.bool_]


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """One vehicle to look at: `level` and `alarm` at the times `ts`; `healthy` says where an alarm would be false."""

    vehicle: str
    verdict: str
    ts: list[float]
    level: list[float]
    alarm: list[bool]
    healthy: list[bool]
    faults: list[tuple[float, float]]


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """How well a row's level alone ranks fault readings above healthy ones; `base_rate` is what a random one gets."""

    auc_pr: float
    base_rate: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One split or seed of a suite, as a worker hands it back: `tallies` of (row, budget), rows that were `refused`;
    `validation` has the false alarms on the validation vehicles of the rows that chose a threshold."""

    split: int
    tallies: dict[tuple[str, float], list[list[float]]]
    rankings: dict[str, Ranking]
    slices: dict[str, list[float]]
    timelines: list[Timeline]
    refused: dict[str, str] = {}
    validation: dict[tuple[str, float], float] = {}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table: medians over the splits. Leads are in vehicle-days or cycles, a missed fault counts as 0.

    The transfer gap is from the budget to `on_validation` (false alarms where the threshold was chosen) and on to
    `false_alarms`, which are `obtained` times the budget.
    """

    row: str
    budget: float
    splits: int
    false_alarms: Estimate
    vehicles_alarmed: Estimate
    time_in_alarm: Estimate
    detected: Estimate
    lead: Estimate
    lead_running: Estimate
    cost: Estimate
    auc_pr: float | None = None
    on_validation: float | None = None
    obtained: float | None = None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How much more lead the product has than a row, paired by split and vehicle, and in how many splits."""

    row: str
    lead: Estimate
    lead_running: Estimate
    won: int
    won_running: int
    splits: int


class SliceRow(msgspec.Struct, frozen=True, kw_only=True):
    """The product on a part of the test readings, all splits together."""

    name: str
    days: float
    false_alarms: float | None
    faults: int
    detected: float | None
    lead: float | None


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Something the suite was to show: `value` is what came, `wanted` says what would do."""

    claim: str
    value: float
    wanted: str
    met: bool


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """All that a suite has to say."""

    suite: str
    about: str
    unit: str
    budget: float
    splits: int
    rows: list[Row]
    """Empty where a benchmark has a scale of its own: `benchmark` then has its rows."""
    differences: list[Difference]
    claims: list[Claim]
    slices: list[SliceRow] = []
    timelines: list[Timeline] = []
    notes: list[str] = []
    base_rate: float | None = None
    benchmark: list[NabRow] = []


def measure(case: Case, split: int, rows: Iterable[Line], costs: Costs, slices: Sequence[Slice] = ()) -> Measured:
    """What the rows of one split came to; slices and timelines are of the product at the case's own budget."""
    tallies: dict[tuple[str, float], list[list[float]]] = {}
    rankings: dict[str, Ranking] = {}
    parts: dict[str, list[float]] = {}
    timelines: list[Timeline] = []
    budget = case.fleet.threshold.false_alarms
    refused: dict[str, str] = {}
    validation: dict[tuple[str, float], float] = {}
    for line in rows:
        if line.played is None:
            refused[line.row] = line.refused
            continue
        decided = line.played.decided
        tallies[line.row, line.budget] = tally(decided, case.fleet, costs).tolist()
        if line.played.validation is not None:
            validation[line.row, line.budget] = line.played.validation
        if line.budget != budget:
            continue
        ranking = rank(line.played)
        if ranking:
            rankings[line.row] = ranking
        if line.row == PRODUCT:
            parts = {one.name: _slice(case, decided, one, costs) for one in slices}
            timelines = _timelines(case, line.played, np.array(tallies[line.row, budget]))
    return Measured(
        split=split,
        tallies=tallies,
        rankings=rankings,
        slices=parts,
        timelines=timelines,
        refused=refused,
        validation=validation,
    )


def rank(played: Played) -> Ranking | None:
    """Area under precision and recall over readings past burn-in, fault against healthy; None if one kind is absent."""
    from sklearn.metrics import average_precision_score

    decided = played.decided
    known = decided.warm & (decided.health != UNKNOWN)
    fault = decided.health[known] == FAULT
    if not fault.any() or fault.all():
        return None
    area = float(average_precision_score(fault, played.level[known]))
    return Ranking(auc_pr=area, base_rate=float(fault.mean()))


def _slice(case: Case, decided: Decided, part: Slice, costs: Costs) -> list[float]:
    """Sums of the tally over one part: what lies outside counts as unknown, faults count where they end."""
    batch = case.test.batch
    inside = np.isin(_keys(decided.codes, decided.ts), _keys(case.test.codes[part.chosen], batch.ts[part.chosen]))
    ends = {(int(code), int(ts)) for code, ts in zip(decided.codes[inside], decided.ts[inside], strict=True)}
    last = [(fault, _last(decided, fault.code, fault.end)) for fault in decided.faults]
    chosen = decided._replace(
        health=np.where(inside | (decided.health != HEALTHY), decided.health, UNKNOWN).astype(np.int8),
        faults=[fault for fault, end in last if (fault.code, end) in ends],
    )
    return list(tally(chosen, case.fleet, costs).sum(axis=0).tolist())


def _last(decided: Decided, code: int, end: int) -> int:
    """The time of a vehicle's last decided reading up to `end`; -1 where there is none."""
    return int(decided.ts[(decided.codes == code) & (decided.ts <= end)].max(initial=-1))


def _keys(codes: NDArray[np.int64], ts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray((codes << 42) + ts)


def _timelines(case: Case, played: Played, tallies: Floats) -> list[Timeline]:
    """A few vehicles of each verdict: alarmed for nothing, found, missed."""
    at = {name: tallies[:, place] for place, name in enumerate(COLUMNS)}
    codes = np.unique(played.decided.codes)
    verdicts = {
        "missed": at["faults"] > at["detected"],
        "false": at["episodes"] > 0,
        "found": (at["faults"] > 0) & (at["detected"] == at["faults"]) & (at["episodes"] == 0),
    }
    return [
        _timeline(case, played, int(code), verdict)
        for verdict, chosen in verdicts.items()
        for code in codes[chosen][:SHOWN]
    ]


def _timeline(case: Case, played: Played, code: int, verdict: str) -> Timeline:
    decided, names = played.decided, case.test.names
    rows = np.flatnonzero(decided.codes == code)
    rows = rows[np.argsort(decided.ts[rows], kind="stable")]
    ts = decided.ts[rows]
    return timeline(
        (names[code], verdict),
        (ts - ts[0]) / case.fleet.ticks_per_day,
        played.level[rows],
        decided.alarm[rows],
        decided.health[rows] == HEALTHY,
        [_since(int(ts[0]), fault, case) for fault in decided.faults if fault.code == code],
    )


def _since(first: int, fault: Fault, case: Case) -> tuple[float, float]:
    return (fault.start - first) / case.fleet.ticks_per_day, (fault.end - first) / case.fleet.ticks_per_day


def timeline(
    named: tuple[str, str],
    days: Floats,
    level: NDArray[np.floating],
    alarm: NDArray[np.bool_],
    healthy: NDArray[np.bool_],
    faults: Sequence[tuple[float, float]],
) -> Timeline:
    """A vehicle (`named` with its verdict) whose readings, in order, are `days` after its first, in POINTS at most."""
    groups = np.array_split(np.arange(len(days)), min(POINTS, len(days)))
    return Timeline(
        vehicle=named[0],
        verdict=named[1],
        ts=[round(float(days[group[0]]), 3) for group in groups],
        level=[round(float(level[group].max()), 3) for group in groups],
        alarm=[bool(alarm[group].any()) for group in groups],
        healthy=[bool(healthy[group].all()) for group in groups],
        faults=[(round(start, 3), round(end, 3)) for start, end in faults],
    )


def rows_of(measured: Sequence[Measured], costs: Costs) -> list[Row]:
    """The table: a row for each row and budget that was measured, in the order of the first split."""
    keys = list(dict.fromkeys(key for one in measured for key in one.tallies))
    result = []
    for row, budget in keys:
        own = _tallies(measured, row, budget)
        areas = [one.rankings[row].auc_pr for one in measured if row in one.rankings]
        area = float(np.median(areas)) if areas else None
        figures = estimates(own, costs)
        known = [one.validation[row, budget] for one in measured if (row, budget) in one.validation]
        result.append(
            Row(
                row=row,
                budget=budget,
                splits=len(own),
                auc_pr=area,
                on_validation=float(np.median(known)) if known else None,
                obtained=figures["false_alarms"].value / budget if known else None,
                **figures,
            )
        )
    return result


def _tallies(measured: Sequence[Measured], row: str, budget: float) -> list[Floats]:
    return [np.array(one.tallies[row, budget]) for one in measured if (row, budget) in one.tallies]


def differences_of(measured: Sequence[Measured], budget: float, costs: Costs) -> list[Difference]:
    """The product against every other row but `always alarm`, whose false alarms are not at the budget."""
    rows = dict.fromkeys(row for one in measured for row, at in one.tallies if at == budget)
    result = []
    for row in rows:
        both = [one for one in measured if (row, budget) in one.tallies and (PRODUCT, budget) in one.tallies]
        if row in (PRODUCT, ALWAYS) or not both:
            continue
        pair = (_tallies(both, PRODUCT, budget), _tallies(both, row, budget))
        lead, won = difference(*pair, costs, "lead")
        running, won_running = difference(*pair, costs, "lead_running")
        result.append(
            Difference(row=row, lead=lead, lead_running=running, won=won, won_running=won_running, splits=len(both))
        )
    return result


def slices_of(measured: Sequence[Measured], costs: Costs) -> list[SliceRow]:
    """The slices, all splits together, those without any reading left out."""
    names = dict.fromkeys(name for one in measured for name in one.slices)
    result = []
    for name in names:
        sums = np.sum([one.slices[name] for one in measured if name in one.slices], axis=0)
        figures = {key: float(value) for key, value in figures_of(sums, costs).items()}
        days, faults = float(sums[COLUMNS.index("days")]), int(sums[COLUMNS.index("faults")])
        if not days and not faults:
            continue
        result.append(
            SliceRow(
                name=name,
                days=days,
                false_alarms=figures["false_alarms"] if days else None,
                faults=faults,
                detected=figures["detected"] if faults else None,
                lead=figures["lead"] if faults else None,
            )
        )
    return result


def refusals(measured: Sequence[Measured]) -> list[str]:
    """A note for each row that training refused in some split."""
    rows = dict.fromkeys(row for one in measured for row in one.refused)
    return [
        f"{row}: refused in {sum(row in one.refused for one in measured)} of {len(measured)} splits: "
        + next(one.refused[row] for one in measured if row in one.refused)
        for row in rows
    ]


def base_rate(measured: Sequence[Measured]) -> float | None:
    """Share of fault readings among those that are known, the area under precision and recall of a random score."""
    rates = [ranking.base_rate for one in measured for row, ranking in one.rankings.items() if row == PRODUCT]
    return float(np.median(rates)) if rates else None


def row_of(rows: Sequence[Row], name: str, budget: float = 1.0) -> Row:
    """The row of a name at a budget."""
    return next(row for row in rows if (row.row, row.budget) == (name, budget))


def at_least(claim: str, value: float, least: float) -> Claim:
    """A claim that needs `least` or more."""
    return Claim(claim=claim, value=value, wanted=f"at least {least:g}", met=value >= least)


def at_most(claim: str, value: float, most: float) -> Claim:
    """A claim that allows `most` or less."""
    return Claim(claim=claim, value=value, wanted=f"at most {most:g}", met=value <= most)
