"""A Batch to messages, in the fleet's format."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch


def encode_readings(batch: Batch, fleet: Fleet) -> list[bytes]:
    """One message a reading; what is missing or infinite is left out, numbers are short."""
    if fleet.stream.format == "arrow":
        return [encode_message(batch.rows(row, row + 1), fleet) for row in range(len(batch))]
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


def encode_message(batch: Batch, fleet: Fleet) -> bytes:
    """All readings in one message; at most 65,535."""
    if fleet.stream.format == "arrow":
        from anomaly.telemetry.arrow import encode

        return encode(batch, fleet)
    messages = encode_readings(batch, fleet)
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
