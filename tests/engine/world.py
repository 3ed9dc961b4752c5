"""A small fleet, frame and model for the engine's tests: two regimes, three signals, cohorts by type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly import settings
from anomaly.engine.engine import Engine
from anomaly.engine.events import RESTARTS, Action, Event, Kept
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm, Checks, Model, ThresholdPolicy
from anomaly.engine.outcome import Applied
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch

FLEET = """
[fleet]
name = "test"
vehicle = "vehicle"
time = "ts"
time_unit = "s"
[signals.a]
min = -50.0
max = 50.0
[signals.b]
max_step = 30.0
missing = "previous"
[signals.c]
stuck_after = 3
[context]
regime = ["load"]
cohort = ["type"]
[quality]
silent_after = 5
grace = "20s"
[baseline]
burn_in = 6
[alerts]
gap = 2
"""


CHECKED = f"{FLEET}lasting_after = 5\n"
"""The same, with an alarm that soon becomes the new normal, and silent vehicles looked for now and then."""


NORMAL = (0.0, 10.0, -5.0, 0.0)
"""A usual reading in the first regime."""


class Norm:
    """A scorer with the sums in a fixed order: the Euclidean length of the evidence in some columns, as nats."""

    def __init__(self, columns: slice = slice(None)) -> None:
        self._columns = columns

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Length of the evidence, times 4."""
        total = np.zeros(len(features), np.float32)
        for column in range(features.shape[1])[self._columns]:
            total += features[:, column] * features[:, column]
        return np.sqrt(total) * np.float32(4)

    def contributions(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shares of the squares."""
        squares = features[:, self._columns][:, :3] ** 2
        return squares / np.maximum(squares.sum(axis=1, keepdims=True), np.float32(1e-9))


def fleet(text: str = FLEET) -> Fleet:
    """The fleet file above."""
    return settings.parse(text, Fleet, "fleet.toml")


def frame(**changes: object) -> Frame:
    """A frame that fits it."""
    values = {
        "signals": ("a", "b", "c"),
        "regime": ("load",),
        "center": ((0.0,), (1.0,)),
        "scale": (0.5,),
        "mean": ((0.0, 10.0, -5.0), (5.0, 20.0, 0.0)),
        "sd": ((1.0, 2.0, 1.0), (1.5, 2.0, 0.5)),
        "prior": (0.1, 0.0, -0.1),
        "gain": ((0.9, 0.05, 0.0), (0.05, 0.8, 0.0), (0.0, 0.0, 0.7)),
        "burn_in": 6,
        "time_constant": 4,
        "cohort": ("type",),
        "period": 60,
    }
    return Frame(**(values | changes))


def arm(adaptation: float = 0.2, digest: str = "m1", k: float = 3.0, q_fleet: float = 2.0) -> Arm:
    """An arm whose model scores by `Norm`."""
    policy = ThresholdPolicy.from_adaptation(adaptation)
    return Arm("champion", 1.0, Model("test/1", digest, Norm(), k, q_fleet, policy))


def checked(abrupt: bool = True, **changes: object) -> Frame:
    """A frame with every check that a kind of alarm of its own needs, `abrupt` or not."""
    checks = {
        "abrupt_time_constant": 2 if abrupt else 0,
        "basis": ((1.0, 0.1, 0.0), (0.0, 0.9, 0.2), (0.1, 0.0, 1.1)),
        "between": (0.3, 0.2, 0.4),
        "step": (9.0, 0.0, 5.0),
        "rhythm": 40.0,
        "reach": (0.6, 0.9),
        "slope": (((0.4, -0.2, 0.0),), ((0.1, 0.0, 0.3),)),
        "usual": (0.5, 0.2, 0.8),
    }
    return frame(**(checks | changes))


def checked_arm(frame: Frame, digest: str = "m1", k: float = 5.0, q_fleet: float = 3.0, silence: float = 5.0) -> Arm:
    """An arm with a threshold for every kind of alarm."""
    policy, checks = ThresholdPolicy.from_adaptation(0.2), Checks(abrupt=9.0, born_ill=1.6, silence=silence)
    quick = Norm(slice(frame.quick, None)) if frame.abrupt_time_constant else None
    model = Model("test/1", digest, Norm(slice(0, frame.quick)), k, q_fleet, policy, checks, quick)
    return Arm("champion", 1.0, model)


class Baselines:
    """Baselines before restarts, as a store keeps them for undos to come."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Kept] = {}

    def __call__(self, vehicle: str, event: str) -> Kept | None:
        """That of an event's vehicle before it."""
        return self._kept.get((vehicle, event))

    def keep(self, applied: Applied) -> None:
        """What a batch made known."""
        for event, kept in zip(applied.events, applied.kept, strict=True):
            if kept:
                self._kept[event.vehicle, event.id] = Kept(event.ts, kept)


def engine(*arms: Arm, text: str = FLEET, made: Frame | None = None, kept: Baselines | None = None) -> Engine:
    """An engine with these arms, or the default one, and a frame, or the one above."""
    new = Engine(fleet(text), made or frame(), kept=kept or Baselines())
    new.use(arms or [arm()], lambda vehicle: sum(vehicle.encode()) % max(len(arms), 1))
    return new


def happenings(seed: int, span: int, vehicles: int = 5, each: int = 7) -> list[Event]:
    """Events of every kind for each of some vehicles, at times up to `span`."""
    return [event for number in range(vehicles) for event in _happen(f"v{number}", seed + number, span, each)]


def _happen(vehicle: str, seed: int, span: int, count: int) -> Iterator[Event]:
    rng = np.random.default_rng(seed)
    known = ["unheard of"]
    for number, ts in enumerate(np.sort(rng.integers(0, span, count)).tolist()):
        name = f"{vehicle}-{number}"
        action = Action(rng.choice([0, 0, 0, 1, 1, 2, 4, 4, 5, 6, 6, 7, 8, 8]))
        some = () if rng.random() < 0.4 else tuple(sorted(rng.choice(3, 1 + int(rng.integers(2)), replace=False)))
        signals = tuple(map(int, some)) if action == Action.RESTART else ()
        undoes = known[-1 if rng.random() < 0.8 else rng.integers(len(known))] if action == Action.UNDO else ""
        until = ts - int(rng.integers(-1, 20)) * span // 200 if action in (Action.CONFIRM, Action.DISMISS) else 0
        yield Event(name, vehicle, ts, action, signals, undoes, until)
        if action == Action.BEGIN:
            yield Event(name, vehicle, ts + span // 20, Action.END)
        if action == Action.CONFIRM:
            yield Event(f"{name}-over", vehicle, ts + span // 15, Action.ANSWER)
        if action in RESTARTS:
            known.append(name)
            if rng.random() < 0.3:
                yield Event(f"{name}-back", vehicle, ts + span // 40, Action.UNDO, (), name)


def stream(seed: int, count: int, vehicles: int = 45) -> Batch:
    """A stream with all that may happen: one vehicle far more often, shifts, gaps, late, double and wild times."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, vehicles, count) * (rng.random(count) < 0.6)
    ts = np.sort(rng.integers(0, 4 * count, count))
    late = rng.random(count) < 0.1
    ts = ts - late * rng.integers(0, 50, count)
    ts = ts + (rng.random(count) < 0.01) * 10**9
    load = rng.integers(0, 2, count)
    made = frame()
    values = np.array(made.mean)[load] + np.array(made.sd)[load] * rng.normal(size=(count, 3))
    values[:, 0] += np.where((who == 1) & (np.arange(count) > count // 2), 6.0, 0.0)
    values[:, 2] = np.where(rng.random(count) < 0.2, -5.0, values[:, 2])
    values[rng.random((count, 3)) < 0.1] = np.nan
    values[rng.random((count, 3)) < 0.02] = np.inf
    values[rng.random((count, 3)) < 0.02] = 99.0
    table = np.column_stack([values, np.where(rng.random(count) < 0.1, np.nan, load)]).astype(np.float32)
    names = [f"v{number}" for number in who]
    context = {"type": [f"t{number % 2}" for number in who], "region": [None] * count}
    return Batch.of(names, ts.astype(np.int64), table, context, np.arange(count))


def eventful(seed: int, count: int) -> Batch:
    """Few vehicles, one in nearly half of all rows: faults that last, abrupt ones, bad births, signals that stop, and
    readings in a regime that nobody has seen."""
    batch = stream(seed, count, vehicles=6)
    rng = np.random.default_rng(seed)
    values, who = batch.values.copy(), np.array([int(name[1:]) for name in batch.vehicles])
    part = np.arange(count) * 12 // count
    values[(who <= 2) & np.isin(part, [3, 4, 8]), 0] += 6.0
    values[(who == 0) & (part == 6), 1] -= 14.0
    values[(who == 3) & (part <= 2)] += np.float32([4.0, 7.0, 3.0, 0.0])
    values[(who == 4) & (part >= 7), 0] = np.nan
    values[rng.random(count) < 0.02, :3] += np.float32([5.0, 20.0, 0.0])
    values[rng.random(count) < 0.1, 3] += np.float32(0.4)
    return batch_of(batch, values)


def batch_of(batch: Batch, values: NDArray[np.float32], ts: NDArray[np.int64] | None = None) -> Batch:
    """The same readings with other values or times."""
    context = {name: [column[row] for row in range(len(batch))] for name, column in batch.context.items()}
    return Batch.of(
        batch.vehicles.tolist(), batch.ts if ts is None else ts, values, context, np.arange(len(batch), dtype=np.int64)
    )


def readings(rows: list[tuple[float, ...]], start: int = 0, vehicle: str = "v0", step: int = 10) -> Batch:
    """Readings of one vehicle with a little noise, one every `step` seconds."""
    count = len(rows)
    jitter = np.random.default_rng(0).normal(0, 0.1, (count, 4)) * [1, 1, 1, 0]
    values = (np.array(rows) + jitter).astype(np.float32)
    context = {"type": ["t0"] * count, "region": [None] * count}
    return Batch.of([vehicle] * count, np.arange(count) * step + start, values, context, np.arange(count))


class Record(NamedTuple):
    """What was learned of a vehicle, as bytes: its baseline, its evidence, its own quantile."""

    baseline: bytes
    evidence: bytes
    quantile: bytes


def record(engine: Engine, vehicle: str = "v0") -> Record:
    """That of a vehicle which was heard of."""
    state = engine._state
    slot, at = state.slot(vehicle), state.arrays.at
    rows = (state.arrays.f4[slot, place : place + 3].tobytes() for place in (at.baseline, at.evidence))
    return Record(*rows, state.quantiles[:, slot].tobytes())


def baseline(engine: Engine, vehicle: str = "v0") -> list[float]:
    """What is normal for a vehicle, in healthy spreads from the middle of the fleet."""
    return np.frombuffer(record(engine, vehicle).baseline, np.float32).tolist()


def whole(engine: Engine) -> list[bytes]:
    """All pages of an engine's state."""
    return [engine.page(number) for number in range(-1, engine.pages)]
