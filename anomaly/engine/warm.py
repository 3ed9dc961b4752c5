"""Compile the kernels once, so that a scorer's first decision does not wait for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from anomaly import settings
from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm, Floats, Model, ThresholdPolicy
from anomaly.engine.program import NO_TREES, ROWS, STEP, Program, run
from anomaly.fleet import Fleet, Format
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.decode import Decoder
from anomaly.telemetry.encode import encode_readings
from anomaly.telemetry.text import uniform

_FLEET = '[fleet]\nname = "warm"\nvehicle = "v"\ntime = "t"\ntime_unit = "s"\n[signals.s]\n'


class _Zero:
    def score(self, features: Floats) -> Floats:
        return np.zeros(len(features), np.float32)

    def contributions(self, features: Floats) -> Floats:
        return np.ones((len(features), 1), np.float32)


def warm(formats: Sequence[Format] = ("json", "msgpack")) -> None:
    """Run a reading of each format through every kernel, from bytes to a decision, to state on disk and back; the
    compiled code stays in its cache folder."""
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
    reading = Batch.of(["v"], np.zeros(1, np.int64), np.full((1, 1), 0.5, np.float32), {}, np.zeros(1, np.int64))
    fleet = settings.parse(_FLEET, Fleet, "warm")
    engine = Engine(fleet, frame)
    engine.use([Arm("champion", 1.0, model)], lambda _vehicle: 0)
    for format in formats:
        told = replace(fleet, stream=replace(fleet.stream, format=format))
        batch = Decoder(told).decode(encode_readings(reading, told), np.zeros(1, np.int64)).batch
        engine.decide(batch)
    nothing = Program(np.zeros((0, STEP), np.int64), np.zeros(ROWS, np.float32), NO_TREES, 1, 0)
    run(nothing, np.zeros((1, 1), np.float32))
    uniform(reading.vehicles.crc32(), reading.ts, 0)
    reading.vehicles.spelled()
    again = Engine(fleet, frame)
    again.apply(engine.delta())
    again.bring_back(["v", "w"])
    again.evict(2)
