"""Readings by their types, whatever is in a message: msgspec decodes, and says what is wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain, islice
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import VERSION

Vehicle = Annotated[str, Meta(min_length=1, max_length=200)]
Ticks = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Version = Annotated[int, Meta(ge=VERSION, le=VERSION)]

UNKNOWN_NAMES_A_MESSAGE = 100
"""At most so many unknown names are counted in one message, so that a hostile one costs no memory."""
TICKS_LIMIT = 2**62
"""Times are within +-2**62, so that the difference of two never overflows an int64."""
REFUSALS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it cannot decode."""

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


class Versioned(msgspec.Struct):
    """The version of any record."""

    v: int = VERSION


class TypedDecoder:
    """Decodes JSON or MessagePack of a fleet with these signals and context fields."""

    def __init__(self, columns: Sequence[str], fields: Sequence[str], format: Literal["json", "msgpack"]) -> None:
        self._columns = columns
        self._fields = fields
        reading = _reading_type(columns, fields)
        module = msgspec.json if format == "json" else msgspec.msgpack
        self._decode: Callable[[bytes], Any] = module.Decoder(reading | list[reading]).decode  # type: ignore[valid-type]
        self._decode_untyped: Callable[[bytes], Any] = module.Decoder().decode
        self._decode_version: Callable[[bytes], Any] = module.Decoder(Versioned | list[Versioned]).decode

    def decode(self, values: Sequence[bytes], offsets: NDArray[np.int64]) -> Decoded:
        """Decode n messages, `offsets` int64[n]: each ends as readings in the batch, or as one failure."""
        readings: list[Any] = []
        counts: list[int] = []
        failures: list[Failure] = []
        first_good: bytes | None = None
        for position, value in enumerate(values):
            try:
                message = self._decode(value)
            except REFUSALS as error:
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
        except REFUSALS:  # an unknown field may hold what the typed decode never looked at
            return Counter()
        first = message[0] if isinstance(message, list) else message
        known = {*self._columns}
        names = chain(
            (str(name) for name in first if name not in _READING_FIELDS),
            (f"signals.{name}" for name in first["signals"] if name not in known),
        )
        return Counter(name[:200] for name in islice(names, UNKNOWN_NAMES_A_MESSAGE))

    def _reason(self, value: bytes, error: Exception) -> str:
        newer_version = newer(value, self._decode_version) if isinstance(error, msgspec.ValidationError) else None
        return newer_version or plain_reason(error)


def context_reader(
    fields: Sequence[str], format: Literal["json", "msgpack"]
) -> Callable[[bytes], tuple[str | None, ...] | None]:
    """A function from a context's bytes to its kept fields; None of what is none."""
    module = msgspec.json if format == "json" else msgspec.msgpack
    decode: Callable[[bytes], Any] = module.Decoder(_context_type(fields)).decode
    decode_untyped: Callable[[bytes], Any] = module.Decoder().decode
    names = [f"f{place}" for place in range(len(fields))]

    def read(text: bytes) -> tuple[str | None, ...] | None:
        try:
            decode_untyped(text)  # the typed decode skips fields that are not kept without reading them
            found = decode(text)
        except REFUSALS:
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
    return _plain_words(str(error))


@lru_cache(1_024)
def _plain_words(said: str) -> str:
    text, _, path = said.replace("`", "").partition(" - at ")
    where = path.replace("key in $", "a name in the message").removeprefix("$")
    array = re.match(r"\[(\d+|\.\.\.)\]", where)
    if array:
        where = f"reading {array[1]} of the array {where[array.end() :]}".strip()
    where = where.replace("array .", "array: ").removeprefix(".")
    text = text.replace("Object missing required field", "missing field").replace("object | array", "object or array")
    text = text[:1].lower() + text[1:] if text.startswith(("Expected", "Number", "Input")) else text
    return f"{where}: {text}" if where else text


def newer(value: bytes, decode: Callable[[bytes], Any]) -> str | None:
    """What to say of a message whose version is not ours, by its decoder of `Versioned`; None if that is not its
    fault."""
    try:
        message = decode(value)
    except REFUSALS:
        return None
    versions = [item.v for item in message] if isinstance(message, list) else [message.v]
    newest = max(versions, default=VERSION)
    return newer_words(newest) if newest > VERSION else None


def newer_words(version: int) -> str:
    """What to say of a version above ours."""
    return f"version {version} is newer than this program reads ({VERSION})"
