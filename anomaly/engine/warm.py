"""Compile the kernels once, so that a scorer's first decision does not wait for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from anomaly import settings
from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm, Floats, Model, ThresholdPolicy
from anomaly.fleet import Fleet, Format
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.decode import Decoder
from anomaly.telemetry.encode import encode_readings

_MESSAGES = {
    "json": b'{"vehicle":"v","ts":0,"signals":{"s":0.5},"v":1}',
    "msgpack": b"\x83\xa7vehicle\xa1v\xa2ts\x00\xa7signals\x81\xa1s\xcb\x3f\xe0\x00\x00\x00\x00\x00\x00",
}
_FLEET = '[fleet]\nname = "warm"\nvehicle = "v"\ntime = "t"\ntime_unit = "s"\n[signals.s]\n'


class _Zero:
    def score(self, features: Floats) -> Floats:
        return np.zeros(len(features), np.float32)

    def contributions(self, features: Floats) -> Floats:
        return np.ones((len(features), 1), np.float32)


def warm(formats: Sequence[Format] = ("json", "msgpack")) -> None:
    """Run one reading of each format through every kernel, from bytes to a decision; the compiled code stays in its
    cache folder."""
    one = (1.0,)
    frame = Frame(
        signals=("s",),
        regime=(),
        center=((),),
        scale=(),
        mean=(one,),
        sd=(one,),
        prior=(0.0,),
        gain=(one,),
        burn_in=2,
        time_constant=20,
    )
    model = Model("warm/1", "warm", _Zero(), 1.0, 1.0, ThresholdPolicy.from_adaptation(0.2))
    for format, message in _MESSAGES.items():
        fleet = settings.parse(f'{_FLEET}[stream]\nformat = "{format}"\n', Fleet, "warm")
        batch = Decoder(fleet).decode([message], np.zeros(1, np.int64)).batch
        engine = Engine(fleet, frame)
        engine.use([Arm("champion", 1.0, model)], lambda _vehicle: 0)
        engine.decide(batch)
    batch.vehicles.crc32()
    batch.vehicles.spelled()
    again = Engine(fleet, frame)
    again.apply(engine.delta())
    again.bring_back(["v", "w"])
    again.evict(2)
