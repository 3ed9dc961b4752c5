"""The readings that everything is measured on: d signals and 3 regime signals a vehicle, 5 types x 4 regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly import settings
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.text import Coded, Text

Mix = Literal["even", "zipf", "one"]
Model = Literal["distance", "pca", "isolation-forest", "autoencoder"]

NAMES = ("egt", "water_c", "oil_kpa", "batt_v", "fuel_lph", "map_kpa", "vib_g", "acc_g", "tyre", "iat")
REGIME = ("rpm", "load", "air_c")
LEVEL = np.array([512, 90, 300, 13.8, 35, 140, 2, 1, 230, 31.0])
SPREAD = np.array([30, 8, 40, 0.4, 5, 12, 0.3, 0.3, 10, 4.0])
PLACES = np.random.default_rng(1).uniform([800, 5, -10], [4200, 95, 35], (6, 3))
REGIONS = ("eu-w", "us-e", "us-w", "ap-s")
TYPES = ("m0", "m1", "m2", "m3", "m4")
START_MS = 1_760_000_000_000
MINUTE_MS, HOUR_MS = 60_000, 3_600_000


class Shape(NamedTuple):
    """What a fleet is like: its scored signals, and what its model is made of."""

    signals: int = 10
    family: Model = "distance"
    wide: bool = False


class Readings(NamedTuple):
    """n readings as numbers: `who` int64[n], `ts` int64[n], `values` float64[n, columns]."""

    who: NDArray[np.int64]
    ts: NDArray[np.int64]
    values: NDArray[np.float64]


def names(signals: int) -> list[str]:
    """Ten names for ten signals, and numbered ones beyond.

    >>> names(12)[9:]
    ['iat', 'egt_1', 'water_c_1']
    """
    return [NAMES[j % 10] + (f"_{j // 10}" if j >= 10 else "") for j in range(signals)]


def fleet(shape: Shape = Shape(), name: str = "bench") -> Fleet:
    """The fleet file of a benchmark: limits for every signal, cohorts by type and region."""
    tables = []
    for j, signal in enumerate(names(shape.signals)):
        level, spread = LEVEL[j % 10], SPREAD[j % 10]
        limits = (
            f"min = {level - 30 * spread}\nmax = {level + 30 * spread}\nmax_step = {25 * spread}\nstuck_after = 60\n"
        )
        tables.append(f"[signals.{signal}]\n{limits}")
    text = f"""
[fleet]
name = "{name}"
vehicle = "vehicle"
time = "ts"
time_unit = "ms"
{"".join(tables)}
[context]
regime = {list(REGIME)}
cohort = ["type", "region"]
[model]
family = "{shape.family}"
{'features = "wide"' if shape.wide else ""}
"""
    return settings.parse(text, Fleet, "bench")


class Feed:
    """Healthy readings without end: every vehicle once a `step_ms`, in a new order each time; `mix` may be changed."""

    def __init__(
        self, vehicles: int, signals: int = 10, mix: Mix = "even", step_ms: int = MINUTE_MS, seed: int = 0
    ) -> None:
        self.vehicles, self.signals, self.mix = vehicles, signals, mix
        self._rng = np.random.default_rng(seed)
        self._own = self._rng.normal(0, 0.3, (vehicles, signals)).astype(np.float32)
        self._order: NDArray[np.int64] = np.zeros(0, np.int64)
        self._zipf = self._rng.permutation(vehicles)
        self._step_ms, self._sent = step_ms, 0

    def take(self, count: int) -> Readings:
        """The next `count` readings, in order of time."""
        who = self._who(count)
        rng = self._rng
        ts = START_MS + (self._sent + np.arange(count)) * self._step_ms // self.vehicles
        self._sent += count
        regime = rng.integers(0, len(PLACES), count)
        deviation = rng.normal(size=(count, self.signals)) + self._own[who] + 0.3 * (regime[:, None] - 2.5)
        repeat = -(-self.signals // 10)
        level, spread = np.tile(LEVEL, repeat)[: self.signals], np.tile(SPREAD, repeat)[: self.signals]
        places = PLACES[regime] + rng.normal(size=(count, 3)) * [10, 0.5, 0.3]
        return Readings(who, ts, np.hstack([level + spread * deviation, places]))

    def _who(self, count: int) -> NDArray[np.int64]:
        if self.mix == "one":
            return np.full(count, 7, np.int64)
        if self.mix == "zipf":
            return self._zipf[(self._rng.zipf(1.3, count) - 1) % self.vehicles]
        while len(self._order) < count:
            self._order = np.concatenate([self._order, self._rng.permutation(self.vehicles)])
        who, self._order = self._order[:count], self._order[count:]
        return who

    def rounds(self, count: int, rows: int = 65_536) -> list[int]:
        """Sizes of the pieces that together are `count` readings of every vehicle."""
        total = count * self.vehicles
        return [min(rows, total - start) for start in range(0, total, rows)]


def name_of(vehicle: int) -> str:
    """A vehicle's id.

    >>> name_of(7)
    'VH-0000007'
    """
    return f"VH-{vehicle:07d}"


def context_of(vehicle: int) -> tuple[str, str]:
    """A vehicle's type and region."""
    return TYPES[vehicle % len(TYPES)], REGIONS[vehicle // len(TYPES) % len(REGIONS)]


def as_batch(readings: Readings) -> Batch:
    """The readings as a decoder gives them."""
    who, count = readings.who, len(readings.who)
    digits = who[:, None] // 10 ** np.arange(6, -1, -1) % 10 + 48
    ids = np.hstack([np.tile(np.frombuffer(b"VH-", np.uint8), (count, 1)), digits.astype(np.uint8)])
    edge = np.arange(count + 1, dtype=np.int64) * ids.shape[1]
    context = {
        "type": Coded((who % len(TYPES)).astype(np.int32), TYPES),
        "region": Coded((who // len(TYPES) % len(REGIONS)).astype(np.int32), REGIONS),
    }
    values = readings.values.astype(np.float32)
    return Batch(Text(ids.ravel(), edge[:-1], edge[1:]), readings.ts, values, context, np.arange(count))


def as_json(readings: Readings) -> list[bytes]:
    """One JSON message a reading, some 285 bytes for 10 signals."""
    columns = [*names(readings.values.shape[1] - len(REGIME)), *REGIME]
    numbers = ",".join(f'"{name}":%.{1 if name in REGIME else 2}f' for name in columns)
    text = '{"vehicle":"VH-%07d","ts":%d,"signals":{' + numbers + '},"context":{"type":"%s","region":"%s"},"v":1}'
    rows = zip(readings.who.tolist(), readings.ts.tolist(), readings.values.tolist(), strict=True)
    return [(text % (who, ts, *values, *context_of(who))).encode() for who, ts, values in rows]


def as_msgpack(readings: Readings) -> list[bytes]:
    """One MessagePack message a reading."""
    encode = msgspec.msgpack.Encoder().encode
    return [encode(reading) for reading in _records(readings)]


def as_arrays(readings: Readings, size: int = 64) -> list[bytes]:
    """JSON arrays of 64 readings."""
    plain = as_json(readings)
    return [b"[" + b",".join(plain[start : start + size]) + b"]" for start in range(0, len(plain), size)]


def as_arrow(readings: Readings) -> list[bytes]:
    """One Arrow IPC stream of all readings: a column a signal, float32, and words in dictionary form."""
    import pyarrow as pa

    batch = as_batch(readings)
    columns = [*names(readings.values.shape[1] - len(REGIME)), *REGIME]
    arrays = {"vehicle": batch.vehicles.arrow(), "ts": pa.array(batch.ts)}
    arrays |= {name: pa.array(batch.values[:, place]) for place, name in enumerate(columns)}
    arrays |= {name: words.arrow() for name, words in batch.context.items()}
    table = pa.record_batch(arrays)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    return [sink.getvalue().to_pybytes()]


def as_spaced(readings: Readings) -> list[bytes]:
    """JSON that is valid but of a shape not seen before: names in another order, spaces, exponents."""
    found = []
    for row, record in enumerate(_records(readings)):
        signals = list(record["signals"].items())
        turned = dict(signals[row % len(signals) :] + signals[: row % len(signals)])
        plain = msgspec.json.encode({**record, "signals": turned})
        found.append(plain.replace(b",", b" , ").replace(b":", b": ", row % 7 + 1))
    return found


def _records(readings: Readings) -> list[dict[str, object]]:
    columns = [*names(readings.values.shape[1] - len(REGIME)), *REGIME]
    rows = zip(readings.who.tolist(), readings.ts.tolist(), readings.values.round(3).tolist(), strict=True)
    return [
        {
            "vehicle": name_of(who),
            "ts": ts,
            "signals": dict(zip(columns, values, strict=True)),
            "context": dict(zip(("type", "region"), context_of(who), strict=True)),
            "v": 1,
        }
        for who, ts, values in rows
    ]


Encode = Callable[[Readings], Sequence[bytes]]
