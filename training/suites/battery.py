"""Lithium-ion cells aged in a laboratory: is their fade seen before they are worn out? Reported, no claim."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from anomaly import settings
from anomaly.cli.init import Request, fleet_file
from anomaly.errors import DataError
from anomaly.fleet import Fleet
from anomaly.telemetry.records import Label
from anomaly.telemetry.survey import survey
from training.history import History, Sources, load_history, make_history, split_vehicles
from training.suites.case import split_case
from training.suites.rows import lines
from training.suites.tally import Costs
from training.suites.verdict import Measured, Verdict, base_rate, differences_of, measure, refusals, rows_of
from training.suites.workers import Said, Task, run

SPLITS = range(5)
WORN, WINDOW, SMOOTHED, FEWEST, BURN_IN = 0.80, 20, 3, 40, 10
SIGNALS = ("v_start", "v_mean_load", "v_min", "t_start", "t_max", "t_rise", "sag_10pct")
BUDGETS = (6.0, 20.0)


def battery(data: Path, costs: Costs, said: Said) -> list[Verdict]:
    """Cells out of `data`/nasa-battery; the fault is the 20 discharges before the capacity falls below 80 %."""
    path = data / "nasa-battery" / "discharge_cycles.csv"
    if not path.exists():
        raise DataError(f"{path} is not there; --data names the folder that holds `nasa-battery/discharge_cycles.csv`")
    measured = list(run([Task(f"split {s}", battery_split, (path, s, costs)) for s in SPLITS], said).values())
    verdict = Verdict(
        suite="battery",
        about="fade found before 80 % of the first capacity; voltages and temperatures alone, the capacity is not used",
        unit="discharges",
        budget=BUDGETS[0],
        splits=len(measured),
        rows=rows_of(measured, costs),
        differences=differences_of(measured, BUDGETS[0], costs),
        claims=[],
        timelines=measured[0].timelines,
        notes=["too few cells wear out for a claim: a test split holds a few of them", *refusals(measured)],
        base_rate=base_rate(measured),
    )
    return [verdict]


def battery_split(path: Path, number: int, costs: Costs) -> Measured:
    """One split of the cells."""
    fleet, history = cells(path)
    case = split_case(fleet, history, split_vehicles(history.names, 0, number)).at(BUDGETS[0])
    return measure(case, number, lines(case, BUDGETS), costs)


def cells(path: Path) -> tuple[Fleet, History]:
    """The cleaned cells, each until it is worn out, and a label for each that is.

    A cell's first capacity is the median of its discharges 2 to 6; what comes before the first discharge with 90 % of
    that, and single discharges that stopped at half of it, are left out; so are cells of under 40 discharges.
    """
    import pandas as pd

    table = pd.read_csv(path)
    kept, labels = [], []
    for name, cell in table.groupby("cell", sort=True):
        first = float(cell["capacity_ah"].iloc[1:6].median())
        begun = (cell["capacity_ah"] >= 0.9 * first).cummax()
        usable = cell[begun & (cell["capacity_ah"] > 0.5 * first)]
        smooth = usable["capacity_ah"].rolling(SMOOTHED, min_periods=SMOOTHED).median()
        worn = usable["cycle"][smooth < WORN * first]
        part = usable[usable["cycle"] <= worn.iloc[0]] if len(worn) else usable
        if len(part) >= FEWEST:
            kept.append(part)
            labels += [_worn(str(name), part["cycle"])] if len(worn) else []
    whole = pd.concat(kept).sort_values("cycle", kind="stable")[["cell", "cycle", "ambient_c", *SIGNALS]]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cells.parquet"
        whole.to_parquet(file, index=False)
        text = fleet_file(Request(file, "cell", "cycle", "battery"), survey(file, "cell", "cycle"))
        fleet = settings.parse(text, Fleet, "fleet.toml")
        fleet = msgspec.structs.replace(fleet, baseline=msgspec.structs.replace(fleet.baseline, burn_in=BURN_IN))
        history = load_history(fleet, Sources(file))
    return fleet, make_history(fleet, history.batch, [], labels, [])


def _worn(name: str, cycles: Iterable[int]) -> Label:
    last = [int(cycle) for cycle in cycles][-WINDOW:]
    return Label(vehicle=name, start=last[0], end=last[-1], verdict="fault", source="laboratory")
