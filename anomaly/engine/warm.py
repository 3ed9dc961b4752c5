"""Compile the kernels once, so that a scorer's first decision does not wait for it."""

from __future__ import annotations

import numpy as np

from anomaly import settings
from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm, Floats, Model, ThresholdPolicy
from anomaly.fleet import Fleet
from anomaly.telemetry.decode import Decoder

_FLEET = '[fleet]\nname = "warm"\nvehicle = "v"\ntime = "t"\ntime_unit = "s"\n[signals.s]\n'


class _Zero:
    def score(self, features: Floats) -> Floats:
        return np.zeros(len(features), np.float32)

    def contributions(self, features: Floats) -> Floats:
        return np.ones((len(features), 1), np.float32)


def warm() -> None:
    """Run one reading through every kernel, from bytes to a decision; the compiled code stays in its cache folder."""
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
    fleet = settings.parse(_FLEET, Fleet, "warm")
    message = b'{"vehicle":"v","ts":0,"signals":{"s":0.5},"v":1}'
    batch = Decoder(fleet).decode([message], np.zeros(1, np.int64)).batch
    engine = Engine(fleet, frame)
    model = Model("warm/1", "warm", _Zero(), 1.0, 1.0, ThresholdPolicy.from_adaptation(0.2))
    engine.use([Arm("champion", 1.0, model)], lambda _vehicle: 0)
    engine.decide(batch)
