"""Files of readings, events and labels: Parquet (a file or a folder of them), Arrow IPC, CSV, and JSON lines.

A file behaves as the stream does: what is odd about it is masked later and noted here. What cannot be read at
all is a DataError that names the file, the column and what to do. pyarrow is imported when a file is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.errors import DataError
from anomaly.fleet import Fleet, TimeUnit
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.decode_records import event_problem, label_problem
from anomaly.telemetry.records import Label, VehicleEvent
from anomaly.telemetry.table import is_numeric, read_table, ticks, vehicle_ids
from anomaly.telemetry.typed import plain_reason

T = TypeVar("T", VehicleEvent, Label)

PROBLEMS_SHOWN = 20
"""A file with more problems than this shows the first ones and the number of the rest."""


GAPS_SHOWN = 3
"""Of signals with missing values, those with the most are named."""


class History(NamedTuple):
    """The readings of a file, and a line for each odd thing about them that a person should know."""

    batch: Batch
    notes: list[str]


def read_history(path: Path, fleet: Fleet, vehicles: Collection[str] | None = None) -> Batch:
    """All readings of a file, or those of `vehicles`, in stable order of time; `offsets` are places in it.

    Raises DataError where `inspect_history` does.
    """
    return inspect_history(path, fleet, vehicles).batch


def inspect_history(
    path: Path, fleet: Fleet, vehicles: Collection[str] | None = None, *, strict: bool = False
) -> History:
    """The readings of a file as `read_history` gives them, and what was noticed about them.

    Raises DataError for a file that is unreadable or empty, for a column that is missing or of the wrong
    type, for rows without vehicle or time, and, if `strict`, for anything noticed about the readings.
    """
    needed = [fleet.fleet.vehicle, fleet.fleet.time, *fleet.columns, *(fleet.context.cohort or [])]
    table = read_table(path, list(dict.fromkeys(needed)), optional=fleet.context_fields, ids=[fleet.fleet.vehicle])
    ids = vehicle_ids(path, fleet.fleet.vehicle, table[fleet.fleet.vehicle])
    ts, clock = ticks(path, fleet.fleet.time, table[fleet.fleet.time], fleet.fleet.time_unit)
    values = _floats(path, {name: table[name] for name in fleet.columns})
    context = {name: _texts(table, name) for name in fleet.context_fields}
    if vehicles is not None:
        wanted = set(vehicles)
        kept = np.flatnonzero(np.array([name in wanted for name in ids.names])[ids.codes])
    else:
        kept = np.arange(len(ts))
    order = kept[np.argsort(ts[kept], kind="stable")]
    names, codes = ids.names, ids.codes[order].tolist()
    batch = Batch.of(
        [names[code] for code in codes],
        ts[order],
        values[order],
        {name: [column[row] for row in order] for name, column in context.items()},
        np.arange(len(order)),
    )
    found = [*_order_notes(ids.codes[kept], ts[kept]), *_gap_notes(fleet.columns, batch.values)]
    if strict and found:
        raise DataError("\n  ".join([f"{path} is refused, as --strict asks, because of:", *found]))
    return History(batch, [*clock, *found])


def read_events(path: Path, fleet: Fleet) -> list[VehicleEvent]:
    """Vehicle events from Parquet, CSV or JSON lines; DataError lists every line that cannot be used."""
    return _read_records(path, fleet, VehicleEvent, event_problem)


def read_labels(path: Path, fleet: Fleet) -> list[Label]:
    """Labels from Parquet, CSV or JSON lines; DataError lists every line that cannot be used."""
    return _read_records(path, fleet, Label, label_problem)


def inspect_labels(path: Path, fleet: Fleet) -> tuple[list[Label], list[str]]:
    """The labels of a file that can be used, and a line for each row that cannot."""
    return _inspect_records(path, fleet, Label, label_problem)


def _floats(path: Path, columns: dict[str, Any]) -> NDArray[np.float32]:
    """float32[n, columns], NaN where null; DataError names every column that is not numeric."""
    import pyarrow as pa

    problems = [
        f"column `{name}` is {column.type}, not numeric; take it out of the signals, or write numbers"
        for name, column in columns.items()
        if not is_numeric(column.type)
    ]
    if problems:
        raise DataError("\n  ".join([f"{path}:", *problems]))
    length = len(next(iter(columns.values())))
    values = np.empty((length, len(columns)), np.float32)
    with np.errstate(over="ignore"):
        for position, column in enumerate(columns.values()):
            values[:, position] = column.cast(pa.float64(), safe=False).to_numpy()
    return values


def _texts(table: Any, name: str) -> list[str | None]:
    if name not in table.column_names:
        return [None] * table.num_rows
    return [None if item is None else str(item) for item in table[name].to_pylist()]


def _order_notes(codes: NDArray[np.int64], ts: NDArray[np.int64]) -> Iterator[str]:
    """Rows of one vehicle that go back in time or repeat a time."""
    by_vehicle = np.argsort(codes, kind="stable")
    same = np.diff(codes[by_vehicle]) == 0
    back = int((same & (np.diff(ts[by_vehicle]) < 0)).sum())
    if back:
        yield f"{back} rows lie before the row above them of the same vehicle; they are read in order of time"
    by_time = np.lexsort((ts, codes))
    repeated = int(((np.diff(codes[by_time]) == 0) & (np.diff(ts[by_time]) == 0)).sum())
    if repeated:
        yield f"{repeated} rows repeat a time of the same vehicle; the first of each counts"


def _gap_notes(columns: Sequence[str], values: NDArray[np.float32]) -> Iterator[str]:
    """Signals with missing or infinite values."""
    if not len(values):
        return
    missing = np.isnan(values).mean(axis=0)
    gaps = sorted((-share, name) for name, share in zip(columns, missing.tolist(), strict=True) if share > 0)
    if gaps:
        named = ", ".join(f"{name} {-share:.1%}" for share, name in gaps[:GAPS_SHOWN])
        more = f", and {len(gaps) - GAPS_SHOWN} signals with fewer" if len(gaps) > GAPS_SHOWN else ""
        yield f"missing values are skipped: {named}{more}"
    infinite = int(np.isinf(values).sum())
    if infinite:
        yield f"{infinite} values are infinite and count as missing"


def _read_records(path: Path, fleet: Fleet, kind: type[T], problem: Callable[[T], str | None]) -> list[T]:
    records, problems = _inspect_records(path, fleet, kind, problem)
    if problems:
        raise _refusal(path, problems)
    return records


def _refusal(path: Path, problems: list[str]) -> DataError:
    more = len(problems) - PROBLEMS_SHOWN
    rest = [f"and {more} more"] if more > 0 else []
    return DataError("\n  ".join([f"{path}:", *problems[:PROBLEMS_SHOWN], *rest]))


def _inspect_records(
    path: Path, fleet: Fleet, kind: type[T], problem: Callable[[T], str | None]
) -> tuple[list[T], list[str]]:
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        rows = _json_rows(path)
    else:
        rows = enumerate(_table_rows(path, fleet, kind), start=1)
    records: list[T] = []
    problems: list[str] = []
    for line, row in rows:
        try:
            record = msgspec.json.decode(row, type=kind) if isinstance(row, bytes) else msgspec.convert(row, kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            problems.append(f"line {line}: {_with_choices(kind, plain_reason(error))}")
            continue
        wrong = problem(record)
        if wrong is None:
            records.append(record)
        else:
            problems.append(f"line {line}: {wrong}")
    return records, problems


def _with_choices(kind: type[VehicleEvent] | type[Label], reason: str) -> str:
    """`reason`, and the words that may stand in a field that knows only a few."""
    field, _, text = reason.partition(": ")
    words = get_args(get_type_hints(kind).get(field)) if text.startswith("Invalid enum value") else ()
    return f"{field}: {text.replace('Invalid enum value', 'unknown')}; one of {', '.join(words)}" if words else reason


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} is empty: it holds no line")
    return ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _table_rows(path: Path, fleet: Fleet, kind: type[T]) -> list[dict[str, Any]]:
    """The rows of a table as records are written: times in the fleet's unit, ids as text, no nulls."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    required = [name for name, field in fields.items() if field.required]
    optional = [name for name in fields if name not in required]
    texts = [name for name in fields if name not in _TIMES and name != "v"]
    table = read_table(path, required, optional=optional, ids=texts)
    columns: dict[str, Sequence[Any]] = {}
    for name in table.column_names:
        column = table[name]
        if name in _TIMES:
            columns[name] = _times(path, name, column, fleet.fleet.time_unit)
        elif name == "v":
            columns[name] = column.to_pylist()
        elif name == "vehicle":
            ids = vehicle_ids(path, name, column)
            columns[name] = [ids.names[code] for code in ids.codes]
        else:
            columns[name] = _texts(table, name)
    rows = zip(*columns.values(), strict=True)
    return [
        {name: item for name, item in zip(columns, row, strict=True) if item is not None and item != ""} for row in rows
    ]


_TIMES = frozenset({"ts", "until", "from", "to", "reported_at"})


def _times(path: Path, name: str, column: Any, unit: TimeUnit) -> list[int | None]:
    """Times of records, None where there is none."""
    filled = column.is_valid()
    known = iter(ticks(path, name, column.filter(filled), unit)[0].tolist())
    return [next(known) if there else None for there in filled.to_pylist()]
