"""What a shadow costs: a batch decided and its rows made ready for the log, with a second model beside and without.

`python -m benchmarks shadow` prints CPU nanoseconds a reading of both, taken in turn. All vehicles have the shadow, a
model of the same family, and sends six readings a piece; the log keeps a hundredth of the decisions, and no archive,
which is the same for both.
"""

from __future__ import annotations

import msgspec
import numpy as np

from anomaly.engine.model import Arm
from anomaly.service.rows import PIECE, LogRows
from benchmarks.stream import Feed, as_batch
from benchmarks.timing import cpu_ns, in_turns
from benchmarks.world import BATCH, World, Worlds

REPEATS, FAMILIES = 12, ("default", "wide")
RUN = PIECE // BATCH


def run(worlds: Worlds) -> list[str]:
    """A line a family."""
    return [_line(name, worlds[name]) for name in FAMILIES]


def _line(name: str, world: World) -> str:
    tried = world.arm.model._replace(digest="0" * 64)
    found = in_turns(
        {
            "alone": Tried(world, world.arm).turn,
            "beside": Tried(world, world.arm._replace(shadow=tried)).turn,
        },
        REPEATS,
    )
    alone, both = (float(np.median(found[key])) for key in ("alone", "beside"))
    return f"{name}: {alone:.0f} ns a reading, with a shadow {both:.0f}: {both - alone:+.0f} ns, {both / alone:.2f}x"


class Tried:
    """An engine with one arm, warm, and the log of its partition."""

    def __init__(self, world: World, arm: Arm) -> None:
        log = msgspec.structs.replace(world.fleet.log, archive="none", decisions="sampled")
        self._arms, self._engine = [arm], world.engine()
        self._engine.use(self._arms, lambda _vehicle: 0)
        self._rows = LogRows(msgspec.structs.replace(world.fleet, log=log), 0, world.frame.digest)
        self._feed = Feed(10_000, len(world.fleet.signals), seed=3)
        for count in self._feed.rounds(40):
            self._engine.decide(as_batch(self._feed.take(count)))

    def turn(self) -> float:
        """CPU nanoseconds a reading over the batches of one piece of the log."""
        batches = [as_batch(self._feed.take(BATCH)) for _ in range(RUN)]

        def work() -> None:
            for batch in batches:
                self._rows.add(self._engine.decide(batch), batch, self._arms)
            self._rows.take()

        return cpu_ns(work) / (RUN * BATCH)
