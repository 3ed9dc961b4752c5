"""Readings in Arrow IPC streams: a message is a stream of record batches, and its buffers become the columns.

Columns: `vehicle` (text), `ts` (whole numbers or timestamps), one of any number type for each signal, one of text for
each context field, and `v`. A message is checked whole before any of its buffers is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types
from numpy.typing import NDArray

from anomaly.fleet import Fleet
from anomaly.telemetry.arrow_sizes import MOST_BYTES, NotCurrent, claimed_bytes
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import VERSION
from anomaly.telemetry.text import Coded, Text
from anomaly.telemetry.typed import TICKS_LIMIT, UNKNOWN_NAMES_A_MESSAGE, Decoded, Failure, newer_words

_REFUSALS = (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError, NotCurrent)
_MOST_PLANS = 16
_LONGEST_ID = 200


class _Refused(Exception):
    """Why a message cannot be used."""


class _Plan(NamedTuple):
    """What the columns of a schema are: places in it (None: not there); of the signals also which
    columns of the matrix they are, and whether all are float32."""

    schema: Any
    vehicle: int
    ts: int
    v: int | None
    signals: list[int]
    columns: list[int]
    single: bool
    context: list[int | None]
    unknown: Counter[str]

    @property
    def places(self) -> list[int]:
        """All columns that are read."""
        others = [place for place in (self.v, *self.context) if place is not None]
        return [self.vehicle, self.ts, *self.signals, *others]


class ArrowDecoder:
    """Decodes the Arrow messages of one fleet; the plan of a schema is made once."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._plans: list[_Plan] = []
        self._said: dict[str, tuple[Any, list[str | None]]] = {}

    def decode(self, values: Sequence[bytes], offsets: NDArray[np.int64]) -> Decoded:
        """Decode n messages, `offsets` int64[n]: each ends as readings in the batch, or as one failure."""
        parts: list[Batch] = []
        failures: list[Failure] = []
        unknown: Counter[str] | None = None
        for position, (value, offset) in enumerate(zip(values, offsets.tolist(), strict=True)):
            try:
                plan, found = self._message(value, offset)
            except _Refused as error:
                failures.append(Failure(position, str(error)))
            except _REFUSALS as error:
                failures.append(Failure(position, f"no Arrow IPC stream: {_first_line(error)}"))
            else:
                parts += found
                unknown = plan.unknown if unknown is None else unknown
        batch = parts[0] if len(parts) == 1 else Batch.concatenated([*parts, *([] if parts else [self._nothing()])])
        return Decoded(batch, failures, Counter(unknown))

    def _nothing(self) -> Batch:
        context = {field: Coded.nothing(0) for field in self._fleet.context_fields}
        none = np.empty(0, np.int64)
        return Batch(Text.of([]), none, np.empty((0, len(self._fleet.columns)), np.float32), context, none)

    def _message(self, value: bytes, offset: int) -> tuple[_Plan, list[Batch]]:
        """The readings of a message."""
        if claimed_bytes(value) > MOST_BYTES:
            raise _Refused(f"unpacked it would have more than {MOST_BYTES:,} bytes; send smaller messages")
        with pa.ipc.open_stream(value) as reader:
            plan = self._plan(reader.schema)
            found = [self._readings(plan, part, offset) for part in reader if part.num_rows]
        if not found:
            raise _Refused("the message holds no reading")
        return plan, found

    def _plan(self, schema: Any) -> _Plan:
        for plan in self._plans:
            if plan.schema.equals(schema):
                return plan
        plan = _make_plan(schema, self._fleet)
        self._plans = [plan, *self._plans[: _MOST_PLANS - 1]]
        return plan

    def _readings(self, plan: _Plan, part: Any, offset: int) -> Batch:
        """One record batch's rows."""
        part.select(plan.places).validate(full=True)
        if plan.v is not None:
            _check_version(part.column(plan.v))
        fields, places = self._fleet.context_fields, plan.context
        columns = [None if place is None else part.column(place) for place in places]
        context = {
            field: Coded.nothing(part.num_rows) if column is None else self._coded(field, column)
            for field, column in zip(fields, columns, strict=True)
        }
        return Batch(
            _vehicles(part.column(plan.vehicle)),
            _ticks(part.column(plan.ts), self._fleet.fleet.time_unit),
            _values(part, plan, len(self._fleet.columns)),
            context,
            np.full(part.num_rows, offset, np.int64),
        )

    def _coded(self, field: str, column: Any) -> Coded:
        """A column of text as codes; their words are one list for as long as messages say the same ones."""
        encoded = column if types.is_dictionary(column.type) else column.dictionary_encode()
        said, indices = encoded.dictionary, encoded.indices
        if field not in self._said or not self._said[field][0].equals(said):
            words = said.to_pylist()
            self._said[field] = pa.array(words, said.type), [*words, None]
        words = self._said[field][1]
        if indices.null_count:
            indices = indices.cast(pa.int64()).fill_null(len(words) - 1)
        return Coded(indices.to_numpy().astype(np.int32), words)


def _make_plan(schema: Any, fleet: Fleet) -> _Plan:
    """What a schema's columns are; raises _Refused for one that is missing, twice there, or of a wrong type."""
    names = schema.names
    place = {name: number for number, name in enumerate(names)}
    known = ["vehicle", "ts", "v", *fleet.columns, *fleet.context_fields]
    for name in known:
        if names.count(name) > 1:
            raise _Refused(f"column {name} is there {names.count(name)} times")
    for name in ("vehicle", "ts"):
        if name not in place:
            raise _Refused(f"missing column {name}")
    present = {name for name in names if not types.is_null(schema.field(place[name]).type)}
    signals = [name for name in fleet.columns if name in present]
    context = [name if name in present else None for name in fleet.context_fields]
    _check_types(schema, "text", _is_text, ["vehicle", *(name for name in context if name is not None)])
    _check_types(schema, "numbers", lambda kind: types.is_integer(kind) or types.is_floating(kind), signals)
    _check_types(schema, "whole numbers", types.is_integer, ["v"] if "v" in place else [])
    unit = fleet.fleet.time_unit
    timed = (lambda _: False) if unit == "cycles" else types.is_timestamp
    wanted = "whole numbers" if unit == "cycles" else "whole numbers or timestamps"
    _check_types(schema, wanted, lambda kind: types.is_integer(kind) or timed(kind), ["ts"])
    unknown = [name[:200] for name in names if name not in known][:UNKNOWN_NAMES_A_MESSAGE]
    return _Plan(
        schema=schema,
        vehicle=place["vehicle"],
        ts=place["ts"],
        v=place.get("v"),
        signals=[place[name] for name in signals],
        columns=[fleet.columns.index(name) for name in signals],
        single=all(types.is_float32(schema.field(name).type) for name in signals),
        context=[None if name is None else place[name] for name in context],
        unknown=Counter(unknown),
    )


def _check_types(schema: Any, wanted: str, fits: Any, names: Iterable[str]) -> None:
    for name in names:
        kind = schema.field(name).type
        if not fits(kind):
            raise _Refused(f"{name}: expected {wanted}, got {kind}"[:500])


def _is_text(kind: Any) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _vehicles(column: Any) -> Text:
    """The ids as spans of the column's own bytes."""
    if column.null_count:
        raise _Refused(f"vehicle: null in {column.null_count} rows")
    rows = None
    if types.is_dictionary(column.type):
        if column.dictionary.null_count:
            raise _Refused("vehicle: its dictionary has a null")
        rows, column = column.indices.to_numpy().astype(np.int64), column.dictionary
    _, edge, data = column.buffers()
    wide = np.int64 if types.is_large_string(column.type) else np.int32
    edges = np.frombuffer(edge, wide, len(column) + 1, column.offset * np.dtype(wide).itemsize).astype(np.int64)
    buffer = np.frombuffer(data if data is not None and data.size else b"\0", np.uint8)
    buffer.flags.writeable = False
    text = Text(buffer, edges[:-1], edges[1:])
    text = text if rows is None else text.take(rows)
    lengths = text.stop - text.start
    if lengths.min(initial=1) < 1:
        raise _Refused(f"vehicle: is empty in row {int(np.argmin(lengths))}")
    long = text.take(np.flatnonzero(lengths > _LONGEST_ID)) if lengths.max(initial=0) > _LONGEST_ID else ()
    if any(len(name) > _LONGEST_ID for name in long):
        raise _Refused(f"vehicle: has more than {_LONGEST_ID} characters in row {int(np.argmax(lengths))}")
    return text


def _ticks(column: Any, unit: str) -> NDArray[np.int64]:
    """Times in the fleet's unit; timestamps without a zone are UTC."""
    if column.null_count:
        raise _Refused(f"ts: null in {column.null_count} rows")
    if types.is_timestamp(column.type):
        target = pa.timestamp(unit, column.type.tz)
        column = column.cast(options=pc.CastOptions(target, allow_time_truncate=True))
    ts: NDArray[np.int64] = np.require(_as_int64(column).to_numpy(), requirements="A")
    if ts.min() < -TICKS_LIMIT or ts.max() > TICKS_LIMIT:
        raise _Refused(f"ts: out of range; the least is {ts.min()}, the greatest {ts.max()}")
    return ts


def _as_int64(column: Any) -> Any:
    return column if types.is_int64(column.type) else column.cast(pa.int64())


def _check_version(column: Any) -> None:
    if column.null_count:
        raise _Refused("v: null")
    least, most = pc.min_max(column).as_py().values()
    if most > VERSION:
        raise _Refused(newer_words(most))
    if least < VERSION:
        raise _Refused(f"v: {least} is no version")


def _values(part: Any, plan: _Plan, width: int) -> NDArray[np.float32]:
    """float32[n, width] with NaN for null and for what has no column; what float32 cannot hold becomes infinite."""
    if not plan.signals:
        return np.full((part.num_rows, width), np.nan, np.float32)
    found = _matrix(part.select(plan.signals), plan.single)
    if plan.columns == list(range(width)):
        return found
    values = np.full((part.num_rows, width), np.nan, np.float32)
    values[:, plan.columns] = found
    return values


def _matrix(part: Any, single: bool) -> NDArray[np.float32]:
    """All columns of a record batch; `single`: they are float32."""
    if single:
        found: NDArray[np.float32] = part.to_tensor(null_to_nan=True, row_major=True).to_numpy()
        return found
    columns = [column.cast(pa.float64(), safe=False) for column in part.columns]
    double = pa.RecordBatch.from_arrays(columns, names=part.schema.names)
    with np.errstate(over="ignore"):
        return double.to_tensor(null_to_nan=True, row_major=True).to_numpy().astype(np.float32)  # type: ignore[no-any-return]


def _first_line(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return said[0][:300] if said else type(error).__name__


def encode(batch: Batch, fleet: Fleet) -> bytes:
    """All readings as one message; what is missing or infinite is NaN."""
    values = np.where(np.isfinite(batch.values), batch.values, np.float32(np.nan))
    columns = {"vehicle": batch.vehicles.arrow(), "ts": pa.array(batch.ts, pa.int64())}
    columns |= {name: pa.array(values[:, place]) for place, name in enumerate(fleet.columns)}
    columns |= {name: batch.context[name].arrow() for name in fleet.context_fields if name in batch.context}
    part = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, part.schema) as writer:
        writer.write_batch(part)
    message: bytes = sink.getvalue().to_pybytes()
    return message
