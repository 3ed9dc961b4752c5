"""Bytes to columns: the readings of messages in any format become one Batch.

A message that cannot be used becomes a Failure with a reason in plain words; the messages around it go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from anomaly.fleet import Fleet, Format
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.typed import Decoded, Failure, TypedDecoder, context_reader

if TYPE_CHECKING:
    from anomaly.telemetry.arrow import ArrowDecoder
    from anomaly.telemetry.scan import Plain, Scanner


class Decoder:
    """Decodes the readings of one fleet; `format` is that of all messages, None: the one of the fleet file.

    A message holds one reading or several, all of which are good or the message is a failure.
    """

    def __init__(self, fleet: Fleet, format: Format | None = None) -> None:
        format = format or fleet.stream.format
        self._decoder: ScanningDecoder | ArrowDecoder
        if format == "arrow":
            from anomaly.telemetry.arrow import ArrowDecoder  # pyarrow takes a while to load

            self._decoder = ArrowDecoder(fleet)
        else:
            self._decoder = ScanningDecoder(fleet.columns, fleet.context_fields, format)

    def decode(self, values: Sequence[bytes], offsets: NDArray[np.int64]) -> Decoded:
        """Decode n messages, `offsets` int64[n]: each ends as readings in the batch, or as one failure."""
        return self._decoder.decode(values, np.asarray(offsets, np.int64))


class ScanningDecoder:
    """JSON or MessagePack: what is plain is scanned, the rest is left to msgspec."""

    def __init__(self, columns: Sequence[str], fields: Sequence[str], format: Literal["json", "msgpack"]) -> None:
        self._fields = fields
        self.typed = TypedDecoder(columns, fields, format)
        self._scanner = _scanner(columns, fields, format)

    def decode(self, values: Sequence[bytes], offsets: NDArray[np.int64]) -> Decoded:
        """Decode n messages, `offsets` int64[n]."""
        if not values:
            return self.typed.decode(values, offsets)
        scanned = self._scanner.scan(values)
        if scanned.ok.all():
            return Decoded(self._batch(scanned, offsets), [], scanned.unknown)
        if not len(scanned.ts):
            return self.typed.decode(values, offsets)
        return self._both(values, offsets, scanned)

    def _both(self, values: Sequence[bytes], offsets: NDArray[np.int64], scanned: Plain) -> Decoded:
        """The plain messages as they were scanned, the others typed, together in the order of their arrival."""
        rest = np.flatnonzero(~scanned.ok)
        typed = self.typed.decode([values[place] for place in rest.tolist()], np.arange(len(rest)))
        failures = [Failure(int(rest[place]), reason) for place, reason in typed.failures]
        batch = self._batch(scanned, offsets)
        if not len(typed.batch):
            return Decoded(batch, failures, scanned.unknown)
        origin = rest[typed.batch.offsets]
        other = replace(typed.batch, offsets=offsets[origin])
        order = np.argsort(np.concatenate([scanned.message, origin]), kind="stable")
        unknown = scanned.unknown if scanned.message[0] < origin[0] else typed.unknown
        return Decoded(Batch.concatenated([batch, other]).take(order), failures, unknown)

    def _batch(self, scanned: Plain, offsets: NDArray[np.int64]) -> Batch:
        context = dict(zip(self._fields, scanned.context, strict=True))
        return Batch(scanned.vehicles, scanned.ts, scanned.values, context, offsets[scanned.message])


def _scanner(columns: Sequence[str], fields: Sequence[str], format: Literal["json", "msgpack"]) -> Scanner:
    """A scanner of this format; numba takes a while to load."""
    from anomaly.compile import direct
    from anomaly.telemetry.scan import Language, Scanner

    if format == "json":
        from anomaly.telemetry.scan_json import learn, scan
    else:
        from anomaly.telemetry.scan_msgpack import learn, scan
    return Scanner(columns, len(fields), Language(learn, direct(scan), context_reader(fields, format)))
