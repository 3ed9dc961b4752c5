"""What a history says about its fleet: unit of time, signals, regime, cohorts, and what to leave out and why.

Everything is found in the data alone. What data cannot tell (what a limit is, whether a few values are a mode
or a coarse sensor) is a note for a person, never a setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anomaly.errors import DataError
from anomaly.fleet import NAME_RULE, TimeUnit, usable_name
from anomaly.telemetry.regimes import Floats, Ints, Regimes, find_regimes, within
from anomaly.telemetry.segments import Segments
from anomaly.telemetry.table import is_numeric, read_table, require_columns, ticks, vehicle_ids

SMALLEST_COHORT = 20
"""Vehicles that a cohort needs, so that its median says something."""
SAME = 0.995
"""A signal that has one and the same value in this share of its readings is as good as constant."""
MOST_COARSE = 20
"""A signal with at most so many values is coarse: long runs of equal ones are its nature."""
LONGEST_RUN = 50
"""A signal that held a value for longer than this may do so again."""
SHORTEST_STUCK = 10
"""A stuck limit is never below this, however short the runs in the history."""
NOISE_VEHICLES, NOISE_READINGS = 20, 2_000
"""Fewer than these prove nothing about a signal being pure noise."""


class Found(NamedTuple):
    """A signal to score: what was seen of it, its stuck limit (0: none), and a remark for a person."""

    name: str
    low: float
    high: float
    stuck_after: int
    remark: str


class Left(NamedTuple):
    """A column that is not scored, and why."""

    name: str
    why: str


class Cohort(NamedTuple):
    """A column by which vehicles can be grouped: how many groups, and vehicles in the smallest."""

    name: str
    groups: int
    smallest: int


class Survey(NamedTuple):
    """All that was found: `signals` and `regime` in the order of the table, `regimes` the number of classes.

    `length` is the median number of readings of a vehicle, `interval` the median ticks from one to the next.
    """

    time_unit: TimeUnit
    time_reason: str
    vehicles: int
    readings: int
    length: int
    interval: int
    signals: list[Found]
    regime: list[str]
    regimes: int
    left: list[Left]
    cohorts: list[Cohort]
    notes: list[str]


class _Numeric(NamedTuple):
    """The columns that could be signals, `values` float64[n, len(names)], and why others cannot."""

    names: list[str]
    values: Floats
    left: dict[str, str]


def survey(path: Path, vehicle: str, time: str, time_unit: TimeUnit | None = None) -> Survey:
    """Look at the history in `path`, whose columns `vehicle` and `time` say who and when.

    `time_unit` overrules what would be inferred. Raises DataError for a file that cannot be read, for key
    columns that are no keys, and for a history without any signal that varies.
    """
    table = read_table(path, None, ids=[vehicle])
    require_columns(path, [vehicle, time], table.column_names)
    ids = vehicle_ids(path, vehicle, table[vehicle])
    unit, reason = (time_unit, "as asked") if time_unit else _time_unit(ids.codes, table[time])
    ts, notes = ticks(path, time, table[time], unit)
    order = np.lexsort((ts, ids.codes))
    segments = Segments.of(ids.codes[order])
    numeric = _numeric(table.drop_columns([vehicle, time]), order, segments)
    regimes = find_regimes(numeric.names, numeric.values, segments)
    judged = _judge(numeric, segments, regimes)
    signals = [item for item in judged if isinstance(item, Found)]
    left = numeric.left | {item.name: item.why for item in judged if isinstance(item, Left)}
    if not signals:
        why = [f"{name}: {text}" for name, text in left.items()]
        raise DataError("\n  ".join([f"{path}: no column can be scored:", *why]))
    return Survey(
        time_unit=unit,
        time_reason=reason,
        vehicles=segments.vehicles,
        readings=len(order),
        length=int(np.median(segments.lengths)),
        interval=int(np.median(np.diff(ts[order])[segments.same])) if segments.same.any() else 0,
        signals=signals,
        regime=[numeric.names[position] for position in regimes.signals],
        regimes=regimes.number,
        left=[Left(name, left[name]) for name in dict.fromkeys(table.column_names) if name in left],
        cohorts=_cohorts(table.drop_columns([vehicle, time]), ids.codes),
        notes=notes,
    )


def _numeric(table: Any, order: Ints, segments: Segments) -> _Numeric:
    """The columns that vary as a sensor does, in the order of `segments`."""
    left: dict[str, str] = {}
    names, columns = [], []
    for name in dict.fromkeys(table.column_names):
        why = _unfit(table, name)
        column = None if why else _numbers(table[name])[order]
        if column is not None:
            why = _no_sensor(column, segments)
        if why or column is None:
            left[name] = str(why)
        else:
            names.append(name)
            columns.append(column)
    return _Numeric(names, np.column_stack(columns) if columns else np.empty((len(order), 0)), left)


def _time_unit(codes: Ints, column: Any) -> tuple[TimeUnit, str]:
    """The unit of a time column, and what tells it."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return "ms", "the column holds timestamps"
    if not is_numeric(column.type):
        return "ms", "not told by the column"
    times = _numbers(column)
    order = np.lexsort((times, codes))
    same = np.diff(codes[order]) == 0
    if same.any() and (np.diff(times[order])[same] == 1).mean() >= 0.9 and times.min() >= 0:
        return "cycles", "it counts up by 1 for each vehicle"
    middle = float(np.median(times))
    if middle > 1e11:
        return "ms", "the numbers are as large as milliseconds since 1970"
    if middle > 1e8:
        return "s", "the numbers are as large as seconds since 1970"
    return "cycles", "the numbers are too small for a date: taken as each vehicle's own counter"


def _unfit(table: Any, name: str) -> str | None:
    """Why a column cannot be a signal whatever it holds."""
    if table.column_names.count(name) > 1:
        return "there are several columns of this name"
    if name.startswith("__index_level_"):
        return "is the row number that pandas wrote"
    if not is_numeric(table[name].type):
        return f"is {table[name].type}, not numeric"
    return None if usable_name(name) else NAME_RULE


def _numbers(column: Any) -> Floats:
    """A numeric column as float64; NaN for what is missing or beyond float32."""
    import pyarrow as pa

    numbers = np.array(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    numbers[~(np.abs(numbers) <= np.finfo(np.float32).max)] = np.nan
    return numbers


def _no_sensor(column: Floats, segments: Segments) -> str | None:
    """Why a numeric column carries nothing to score, seen on its own."""
    present = column[np.isfinite(column)]
    if not len(present):
        return "holds no value"
    if present.max() - present.min() <= 1e-6 * max(1e-30, float(np.abs(present).max())):
        return f"is constant: {present[0]:.6g}"
    distinct, counts = np.unique(present, return_counts=True)
    share = counts.max() / len(present)
    if share >= SAME:
        return f"is as good as constant: {distinct[counts.argmax()]:.6g} in {share:.1%} of the readings"
    steps = np.diff(column)[segments.same]
    steps = steps[np.isfinite(steps)]
    if len(steps) and (steps == steps[0]).mean() >= 0.99 and steps[0] != 0:
        return f"moves by {steps[0]:g} at each reading: a counter or a countdown, not a sensor"
    if len(steps) and (steps >= 0).mean() >= 0.999 and len(distinct) > MOST_COARSE:
        return "only ever grows, as a meter does; score its rate instead"
    return None


def _judge(numeric: _Numeric, segments: Segments, regimes: Regimes) -> list[Found | Left]:
    """What becomes of each column that is no regime signal."""
    residuals = within(numeric.values, regimes.classes)
    judged: list[Found | Left] = []
    for position, name in enumerate(numeric.names):
        if position in regimes.signals:
            continue
        column, residual = numeric.values[:, position], residuals[:, position]
        why = _nothing_within(column, residual, segments, regimes)
        if why:
            judged.append(Left(name, why))
            continue
        low, high = float(np.nanmin(column)), float(np.nanmax(column))
        remark = _remark(position in regimes.even, residual, segments)
        judged.append(Found(name, low, high, _stuck_after(column, segments), remark))
    return judged


def _remark(even: bool, residual: Floats, segments: Segments) -> str:
    """What a person should look at, since data cannot tell."""
    if even and len(residual) >= NOISE_READINGS and segments.persistence(residual) < 0.02:
        return "a few even steps without a trend: leave it out if it is a command, not a sensor"
    if even:
        return "a few even steps: if it is a mode or a gear, move it to context.regime"
    return ""


def _nothing_within(column: Floats, residual: Floats, segments: Segments, regimes: Regimes) -> str | None:
    """Why a column says nothing once its vehicle and regime are known."""
    steps = np.diff(column)[segments.same]
    if (steps != 0).sum() <= (1.0 - SAME) * len(steps):
        return "hardly ever changes within a vehicle: it says what the vehicle is, not how it does"
    if regimes.number > 1 and _share_of_modes(column, regimes) >= SAME:
        return "is constant in each regime: it only repeats the regime signals"
    present = residual[np.isfinite(residual)]
    if segments.vehicles < NOISE_VEHICLES or len(present) < NOISE_READINGS:
        return None
    deviation = float(present.std())
    ratio, error = segments.variance_ratio(residual)
    skew = float(((present - present.mean()) ** 3).mean()) / deviation**3 if deviation else 0.0
    if ratio - 1.0 < 3.0 * error and abs(skew) < 0.5:
        return "is pure noise: nothing of it lasts from reading to reading, and no vehicle differs from another"
    return None


def _share_of_modes(column: Floats, regimes: Regimes) -> float:
    """The share of readings that have the most common value of their regime."""
    common = total = 0
    for number in range(regimes.number):
        part = column[regimes.classes == number]
        part = part[np.isfinite(part)]
        if len(part):
            common += int(np.unique(part, return_counts=True)[1].max())
            total += len(part)
    return common / max(total, 1)


def _stuck_after(column: Floats, segments: Segments) -> int:
    """Three times the longest run of equal values; 0 where coarse values or long runs are its nature."""
    run = segments.longest_run(column)
    coarse = len(np.unique(column[np.isfinite(column)])) <= MOST_COARSE
    if coarse or run > LONGEST_RUN or 3 * run > np.median(segments.lengths) / 2:
        return 0
    return max(SHORTEST_STUCK, 3 * run)


def _cohorts(table: Any, codes: Ints) -> list[Cohort]:
    """Text columns that stay the same for each vehicle and make groups of at least 20 vehicles."""
    found = []
    vehicles = len(np.unique(codes))
    for name in dict.fromkeys(table.column_names):
        if table.column_names.count(name) > 1 or is_numeric(table[name].type):
            continue
        pairs = set(zip(codes.tolist(), map(str, table[name].to_pylist()), strict=True))
        sizes = np.unique([text for _, text in pairs], return_counts=True)[1]
        if len(pairs) == vehicles and len(sizes) >= 2 and sizes.min() >= SMALLEST_COHORT:
            found.append(Cohort(name, len(sizes), int(sizes.min())))
    return found
