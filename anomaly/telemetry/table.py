"""Tables on disk, and their columns as the platform needs them: ids as text, times as ticks.

Errors name the file, the column and what to do. pyarrow is imported when a table is opened.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.errors import DataError
from anomaly.fleet import TimeUnit
from anomaly.telemetry.typed import TICKS_LIMIT


class Ids(NamedTuple):
    """The vehicles of n rows: `names`, and `codes` int64[n], the position of each row's vehicle in them."""

    names: list[str]
    codes: NDArray[np.int64]


def read_table(
    path: Path, columns: Sequence[str] | None, *, optional: Sequence[str] = (), ids: Sequence[str] = ()
) -> Any:
    """The pyarrow table in a file: `columns` (None: all), `optional` ones if there; `ids` stay text in CSV.

    Raises DataError for a file that is unreadable or empty, or lacks a column.
    """
    import pyarrow as pa

    try:
        source = _open(path, ids)
        schema_names = source.schema.names
        if columns is None:
            chosen = list(schema_names)
        else:
            require_columns(path, columns, schema_names)
            chosen = list(dict.fromkeys([*columns, *(name for name in optional if name in schema_names)]))
        table = source.select(chosen) if isinstance(source, pa.Table) else source.to_table(columns=chosen)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{path} cannot be read: {first_line}") from error
    if table.num_rows == 0:
        raise DataError(f"{path} is empty: it holds no row")
    return table


def _open(path: Path, ids: Sequence[str]) -> Any:
    """A pyarrow dataset, or for CSV a table: its types are only known when all of it was read."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.dataset

    if path.is_dir():
        if not any(path.rglob("*.parquet")):
            raise DataError(f"{path} is a folder without any .parquet file")
        return pyarrow.dataset.dataset(path, format="parquet", partitioning="hive")
    if not path.is_file():
        raise DataError(f"{path} is not there")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty: it has no bytes")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        types = dict.fromkeys(ids, pa.string())
        return pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=types))
    formats = {".parquet": "parquet", ".pq": "parquet", ".arrow": "ipc", ".feather": "ipc", ".ipc": "ipc"}
    if suffix not in formats:
        known = ", ".join([*formats, ".csv"])
        raise DataError(f"{path}: a file ending in `{suffix}` is not known here; give one of {known}, or a folder")
    return pyarrow.dataset.dataset(path, format=formats[suffix])


def require_columns(path: Path, columns: Sequence[str], present: Sequence[str]) -> None:
    """DataError with every one of `columns` that is not `present` exactly once."""
    problems = []
    unlike = False
    for name in columns:
        if name not in present:
            near = difflib.get_close_matches(name, present, n=1, cutoff=0.6)
            problems.append(f"column `{name}` is missing{f'; did you mean `{near[0]}`?' if near else ''}")
            unlike |= not near
        elif present.count(name) > 1:
            problems.append(f"column `{name}` is there {present.count(name)} times; keep one")
    if unlike:
        problems.append(f"columns there: {', '.join(present[:30])}{', ...' if len(present) > 30 else ''}")
    if problems:
        raise DataError("\n  ".join([f"{path}:", *problems]))


def vehicle_ids(path: Path, name: str, column: Any) -> Ids:
    """The key column as text; DataError where a row has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_floating(column.type):
            column = column.cast(pa.int64())
        column = column.cast(pa.string())
    except pa.ArrowException as error:
        raise DataError(f"{path}: column `{name}` ({column.type}) cannot be taken as vehicle ids") from error
    absent = pc.fill_null(pc.equal(column, ""), True).to_numpy()
    if absent.any():
        row = int(np.argmax(absent))
        raise DataError(f"{path}: column `{name}` names no vehicle in {absent.sum()} rows, the first is row {row}")
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    names = encoded.dictionary.to_pylist()
    long = next((text for text in names if len(text) > 200), None)
    if long is not None:
        raise DataError(f"{path}: column `{name}`: a vehicle id has at most 200 characters, not {len(long)}")
    return Ids(names, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64))


def ticks(path: Path, name: str, column: Any, unit: TimeUnit) -> tuple[NDArray[np.int64], list[str]]:
    """A time column as int64 in `unit`, and a note where a time zone had to be assumed.

    Raises DataError for a type that is no time, rows without a time, and timestamps where unit is cycles.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, notes = column.type, []
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise DataError(f"{path}: column `{name}` has no time in {column.null_count} rows, the first is row {row}")
    try:
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            if unit == "cycles":
                raise DataError(f"{path}: column `{name}` holds dates, and time_unit is `cycles`; set it to `ms`")
            if getattr(kind, "tz", None) is None:
                notes.append(f"column `{name}` names no time zone: taken as UTC")
            finest = column.cast(pa.timestamp("ms")) if pa.types.is_date(kind) else column
            target = pa.timestamp(unit, getattr(kind, "tz", None))
            column = finest.cast(options=pc.CastOptions(target, allow_time_truncate=True))
        elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise DataError(f"{path}: column `{name}` is {kind}, which is no time; give whole numbers or timestamps")
        numbers: NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: column `{name}` ({kind}) holds times that are no whole numbers or too large: {error}"
        ) from error
    if numbers.min() < -TICKS_LIMIT or numbers.max() > TICKS_LIMIT:
        raise DataError(f"{path}: column `{name}` holds times beyond 2**62; is the unit right?")
    return numbers, notes


def is_numeric(kind: Any) -> bool:
    """Whether a column of this pyarrow type can be a signal; an all-null column can."""
    import pyarrow.types as types

    checks = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    return any(check(kind) for check in checks)
