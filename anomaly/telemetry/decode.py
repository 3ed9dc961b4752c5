"""Bytes to columns in one typed pass: readings to a Batch, and the records of the other topics.

A message that cannot be used becomes a Failure with a reason in plain words; the messages around it go on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from anomaly.fleet import Fleet, Format
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import VERSION, Label, VehicleEvent

if TYPE_CHECKING:
    from anomaly.telemetry.scan import Plain, Scanner

Vehicle = Annotated[str, Meta(min_length=1, max_length=200)]
Ticks = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Version = Annotated[int, Meta(ge=VERSION, le=VERSION)]
T = TypeVar("T", VehicleEvent, Label)

UNKNOWN_NAMES_A_MESSAGE = 100
"""At most so many unknown names are counted in one message, so that a hostile one costs no memory."""
TICKS_LIMIT = 2**62
"""Times are within +-2**62, so that the difference of two never overflows an int64."""

_REFUSALS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_READING_FIELDS = frozenset({"vehicle", "ts", "signals", "context", "v"})


class Failure(NamedTuple):
    """A message that could not be used: its position among those given, and why."""

    position: int
    reason: str


class Decoded(NamedTuple):
    """What messages held: the readings of the good ones in order, the bad ones, and unknown names.

    `batch.offsets` are those of the messages; `unknown` is a sample: of each call, the first good message.
    """

    batch: Batch
    failures: list[Failure]
    unknown: Counter[str]


class _Versioned(msgspec.Struct):
    v: int = VERSION


class Decoder:
    """Decodes the readings of one fleet; `format` is that of all messages, None: the one of the fleet file.

    A message holds one reading or an array of them, all of which are good or the message is a failure.
    """

    def __init__(self, fleet: Fleet, format: Format | None = None) -> None:
        format = format or fleet.stream.format
        self._columns = fleet.columns
        self._fields = fleet.context_fields
        reading = _reading_type(self._columns, self._fields)
        module = msgspec.json if format == "json" else msgspec.msgpack
        self._decode: Callable[[bytes], Any] = module.Decoder(reading | list[reading]).decode  # type: ignore[valid-type]
        self._decode_untyped: Callable[[bytes], Any] = module.Decoder().decode
        self._decode_version: Callable[[bytes], Any] = module.Decoder(_Versioned | list[_Versioned]).decode
        self._scanner = _scanner(self._columns, self._fields) if format == "json" else None

    def decode(self, values: Sequence[bytes], offsets: NDArray[np.int64]) -> Decoded:
        """Decode n messages, `offsets` int64[n]: each ends as readings in the batch, or as one failure."""
        offsets = np.asarray(offsets, np.int64)
        if self._scanner is None or not values:
            return self._typed(values, offsets)
        scanned = self._scanner.scan(values)
        if scanned.ok.all():
            return Decoded(self._plain_batch(scanned, offsets), [], self._unknown(values[0]))
        if not scanned.ok.any():
            return self._typed(values, offsets)
        return self._both(values, offsets, scanned)

    def _both(self, values: Sequence[bytes], offsets: NDArray[np.int64], scanned: Plain) -> Decoded:
        """The plain messages as they were scanned, the others typed, together in the order of their arrival."""
        rest = np.flatnonzero(~scanned.ok)
        typed = self._typed([values[place] for place in rest.tolist()], np.arange(len(rest)))
        origin = rest[typed.batch.offsets]
        plain, other = self._plain_batch(scanned, offsets), replace(typed.batch, offsets=offsets[origin])
        order = np.argsort(np.concatenate([np.flatnonzero(scanned.ok), origin]), kind="stable")
        failures = [Failure(int(rest[place]), reason) for place, reason in typed.failures]
        failed = {place for place, _ in failures}
        first_good = next((value for place, value in enumerate(values) if place not in failed), None)
        return Decoded(plain.joined(other).take(order), failures, self._unknown(first_good))

    def _plain_batch(self, scanned: Plain, offsets: NDArray[np.int64]) -> Batch:
        with np.errstate(over="ignore"):
            values = scanned.values.astype(np.float32)
        context = {
            field: [None if found is None else found[place] for found in scanned.contexts]
            for place, field in enumerate(self._fields)
        }
        return Batch.of(scanned.vehicles, scanned.ts, values, context, offsets[scanned.ok])

    def _typed(self, values: Sequence[bytes], offsets: NDArray[np.int64]) -> Decoded:
        """Decode n messages by their types, whatever is in them."""
        readings: list[Any] = []
        counts: list[int] = []
        failures: list[Failure] = []
        first_good: bytes | None = None
        for position, value in enumerate(values):
            try:
                message = self._decode(value)
            except _REFUSALS as error:
                failures.append(Failure(position, self._reason(value, error)))
                counts.append(0)
                continue
            if type(message) is not list:
                readings.append(message)
                counts.append(1)
            elif message:
                readings.extend(message)
                counts.append(len(message))
            else:
                failures.append(Failure(position, "the array holds no reading"))
                counts.append(0)
                continue
            first_good = value if first_good is None else first_good
        batch = self._batch(readings, np.repeat(np.asarray(offsets, np.int64), counts))
        return Decoded(batch, failures, self._unknown(first_good))

    def _batch(self, readings: list[Any], offsets: NDArray[np.int64]) -> Batch:
        n = len(readings)
        vehicles = list(map(attrgetter("vehicle"), readings))
        ts = np.fromiter(map(attrgetter("ts"), readings), np.int64, n)
        values = self._values(list(map(attrgetter("signals"), readings)))
        contexts = list(map(attrgetter("context"), readings))
        context = {
            field: [None if item is None else getattr(item, f"f{i}") for item in contexts]
            for i, field in enumerate(self._fields)
        }
        return Batch.of(vehicles, ts, values, context, offsets)

    def _values(self, signals: list[Any]) -> NDArray[np.float32]:
        """float32[n, columns] with NaN for None; what float32 cannot hold becomes infinite."""
        width = len(self._columns)
        rows: Iterable[Any] = map(attrgetter(*(f"s{i}" for i in range(width))), signals)
        flat = rows if width == 1 else chain.from_iterable(rows)
        values = np.fromiter(flat, np.float64, len(signals) * width).reshape(len(signals), width)
        with np.errstate(over="ignore"):
            return values.astype(np.float32)

    def _unknown(self, value: bytes | None) -> Counter[str]:
        """Names in the first reading of a good message that this fleet does not know."""
        if value is None:
            return Counter()
        try:
            message = self._decode_untyped(value)
        except _REFUSALS:  # an unknown field may hold what the typed decode never looked at
            return Counter()
        first = message[0] if isinstance(message, list) else message
        known = {*self._columns}
        names = chain(
            (str(name) for name in first if name not in _READING_FIELDS),
            (f"signals.{name}" for name in first["signals"] if name not in known),
        )
        return Counter(name[:200] for name in islice(names, UNKNOWN_NAMES_A_MESSAGE))

    def _reason(self, value: bytes, error: Exception) -> str:
        return _newer(value, self._decode_version) or plain_reason(error)


def _scanner(columns: Sequence[str], fields: Sequence[str]) -> Scanner:
    from anomaly.telemetry.scan import Scanner  # numba takes a while to load

    return Scanner(columns, _context_reader(fields))


def _context_reader(fields: Sequence[str]) -> Callable[[bytes], tuple[str | None, ...] | None]:
    """A function from the inside of a context's braces to its kept fields; None for what is no context."""
    decode = msgspec.json.Decoder(_context_type(fields)).decode
    names = [f"f{place}" for place in range(len(fields))]

    def read(text: bytes) -> tuple[str | None, ...] | None:
        try:
            found = decode(b"{" + text + b"}")
        except msgspec.MsgspecError:
            return None
        return tuple(getattr(found, name) for name in names)

    return read


def _context_type(fields: Sequence[str]) -> Any:
    return msgspec.defstruct(
        "Context",
        [(f"f{i}", str | None, None) for i in range(len(fields))],
        rename={f"f{i}": name for i, name in enumerate(fields)},
        gc=False,
    )


def _reading_type(columns: Sequence[str], fields: Sequence[str]) -> Any:
    """The struct of a fleet's reading: one field a signal and a kept context field, by their own names."""
    signals = msgspec.defstruct(
        "Signals",
        [(f"s{i}", float | None, None) for i in range(len(columns))],
        rename={f"s{i}": name for i, name in enumerate(columns)},
        gc=False,
    )
    context = _context_type(fields)
    return msgspec.defstruct(
        "Reading",
        [
            ("vehicle", Vehicle),
            ("ts", Ticks),
            ("signals", signals),
            ("context", context | None, None),
            ("v", Version, VERSION),
        ],
        gc=False,
    )


def plain_reason(error: Exception) -> str:
    """The words of a failed decode for people: where, what was expected, what was found."""
    if isinstance(error, UnicodeDecodeError):
        return "text that is not valid UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    text, _, path = str(error).replace("`", "").partition(" - at ")
    where = path.replace("key in $", "a name in the message").removeprefix("$")
    array = re.match(r"\[(\d+|\.\.\.)\]", where)
    if array:
        where = f"reading {array[1]} of the array {where[array.end() :]}".strip()
    where = where.replace("array .", "array: ").removeprefix(".")
    text = text.replace("Object missing required field", "missing field").replace("object | array", "object or array")
    text = text[:1].lower() + text[1:] if text.startswith(("Expected", "Number", "Input")) else text
    return f"{where}: {text}" if where else text


def _newer(value: bytes, decode: Callable[[bytes], Any]) -> str | None:
    """What to say of a message whose version is not ours; None if that is not its fault."""
    try:
        message = decode(value)
    except _REFUSALS:
        return None
    versions = [item.v for item in message] if isinstance(message, list) else [message.v]
    newest = max(versions, default=VERSION)
    if newest > VERSION:
        return f"version {newest} is newer than this program reads ({VERSION})"
    return None


def decode_events(values: Sequence[bytes]) -> tuple[list[VehicleEvent], list[Failure]]:
    """JSON messages of the topic `vehicle-events`, one event each: the good ones in order, and the bad."""
    return _records(values, VehicleEvent, event_problem)


def decode_labels(values: Sequence[bytes]) -> tuple[list[Label], list[Failure]]:
    """JSON messages of the topic `labels`, one label each: the good ones in order, and the bad."""
    return _records(values, Label, label_problem)


def _records(
    values: Sequence[bytes], kind: type[T], problem: Callable[[T], str | None]
) -> tuple[list[T], list[Failure]]:
    decode = msgspec.json.Decoder(kind).decode
    version = msgspec.json.Decoder(_Versioned).decode
    records: list[T] = []
    failures: list[Failure] = []
    for position, value in enumerate(values):
        try:
            record = decode(value)
        except _REFUSALS as error:
            failures.append(Failure(position, _newer(value, version) or plain_reason(error)))
            continue
        wrong = problem(record)
        if wrong is None:
            records.append(record)
        else:
            failures.append(Failure(position, wrong))
    return records, failures


def event_problem(event: VehicleEvent) -> str | None:
    """What is wrong with an event whose types are right; None if nothing."""
    if not event.id:
        return "id: is empty; an event needs one, so that it counts once"
    if event.kind == "undo" and not event.undoes:
        return "undoes: missing; an event of kind undo names the id of the event that it takes back"
    if event.until is not None and event.until < event.ts:
        return f"until: {event.until} lies before ts {event.ts}"
    return _record_problem(event.vehicle, event.v, {"ts": event.ts, "until": event.until})


def label_problem(label: Label) -> str | None:
    """What is wrong with a label whose types are right; None if nothing."""
    if label.start > label.end:
        return f"from: {label.start} lies after to {label.end}"
    times = {"from": label.start, "to": label.end, "reported_at": label.reported_at}
    return _record_problem(label.vehicle, label.v, times)


def _record_problem(vehicle: str, version: int, times: dict[str, int | None]) -> str | None:
    if version > VERSION:
        return f"version {version} is newer than this program reads ({VERSION})"
    if version < VERSION:
        return f"v: {version} is no version"
    if not 1 <= len(vehicle) <= 200:
        return f"vehicle: has {len(vehicle)} characters; 1 to 200 are allowed"
    for name, ticks in times.items():
        if ticks is not None and abs(ticks) > TICKS_LIMIT:
            return f"{name}: {ticks} is out of range"
    return None


def encode_readings(batch: Batch, fleet: Fleet) -> list[bytes]:
    """One message a reading in the fleet's format; what is missing or infinite is left out, numbers are short."""
    encode = (msgspec.json if fleet.stream.format == "json" else msgspec.msgpack).Encoder().encode
    fields = [(name, batch.context[name]) for name in fleet.context_fields if name in batch.context]
    columns = fleet.columns
    numbers = _shortest(batch.values).tolist()
    present = np.isfinite(batch.values).tolist()
    messages = []
    for row, (vehicle, ts) in enumerate(zip(batch.vehicles, batch.ts.tolist(), strict=True)):
        named = zip(columns, numbers[row], present[row], strict=True)
        signals = {name: number for name, number, there in named if there}
        reading: dict[str, Any] = {"vehicle": vehicle, "ts": ts, "signals": signals}
        context = {name: column[row] for name, column in fields if column[row] is not None}
        if context:
            reading["context"] = context
        messages.append(encode(reading))
    return messages


def packed(messages: Sequence[bytes], fleet: Fleet) -> bytes:
    """Encoded readings as one message, an array of them in the fleet's format; at most 65,535."""
    if fleet.stream.format == "json":
        return b"[" + b",".join(messages) + b"]"
    return b"\xdc" + len(messages).to_bytes(2, "big") + b"".join(messages)


def _shortest(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64 with as few decimal digits (7 to 9) as give the same float32 back; others unchanged."""
    exact = values.astype(np.float64)
    best = exact.copy()
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log10(np.abs(exact)))
        open_ = np.isfinite(exact) & (np.abs(exponent) < 30)
        for digits in (7, 8, 9):
            scale = 10.0 ** (digits - 1 - exponent)
            rounded = np.rint(exact * scale) / scale
            hit = open_ & (rounded.astype(np.float32) == values)
            best[hit] = rounded[hit]
            open_ &= ~hit
    return best
