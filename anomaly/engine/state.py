"""State of all vehicles of one engine: slots, growth, and its bytes. No file: the service writes the bytes down."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.engine import layout
from anomaly.engine.frame import Frame
from anomaly.engine.layout import Cohorts, State
from anomaly.errors import StateError

VERSION = 1


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What changed since the last time, as bytes of arrays: rows `slots` of the state and `cohort_rows` of the cohorts,
    and all that is by neither. `waiting` is None where it did not change."""

    version: int
    frame: str
    signals: int
    slots: bytes
    first_new: int
    new: list[str]
    floats: bytes
    counts: bytes
    ints: bytes
    clock: bytes
    quantiles: dict[str, bytes]
    q_fleet: dict[str, float]
    waiting: list[tuple[str, str, int]] | None
    cohort_keys: list[str]
    cohort_rows: bytes
    cohorts: tuple[bytes, bytes, bytes, bytes, bytes]


class VehicleState:
    """Rows of arrays, one a vehicle; a vehicle keeps its slot for ever. Grows by doubling."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._signals = len(frame.signals)
        self._index: dict[str, int] = {}
        self.vehicles: list[str] = []
        self.cohort_keys: dict[str, int] = {}
        self.q_fleet: dict[str, float] = {}
        clock = np.zeros(layout.CLOCK, np.int64)
        clock[[layout.NOW, layout.AHEAD_SLOT]] = layout.NEVER, -1
        self.arrays = State(*self._rows(0), clock)
        self.cohorts = self._cohort_rows(0)
        self.quantiles: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._changed: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._changed_cohorts: set[int] = set()
        self._saved_vehicles = 0

    def _rows(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.uint16], NDArray[np.int64]]:
        floats = np.zeros((count, 3 * self._signals + 2), np.float32)
        floats[:, 2 * self._signals : 3 * self._signals] = np.nan
        ints = np.zeros((count, layout.INT_COLUMNS), np.int64)
        ints[:, [layout.LAST_TS, layout.RESTARTED]] = layout.NEVER
        ints[:, [layout.HEAD, layout.COHORT]] = -1
        return floats, np.zeros((count, 3 * self._signals), np.uint16), ints

    def _cohort_rows(self, count: int) -> Cohorts:
        shape = (count, layout.PERIODS, self._signals, layout.BINS)
        shift = np.zeros((count, self._signals), np.float32)
        never = np.full(count, layout.NEVER, np.int64)
        nobody = np.full((count, 2), -1, np.int64)
        return Cohorts(np.zeros(shape, np.uint32), shift, never, np.zeros(count, np.int64), nobody)

    def slot(self, vehicle: str) -> int | None:
        """The slot of a vehicle that was seen before."""
        return self._index.get(vehicle)

    def slots(self, vehicles: Sequence[str]) -> NDArray[np.int64]:
        """Slots of n vehicles, int64[n]; one that is new is given the next slot and the fleet's prior."""
        index = self._index
        try:
            return np.fromiter(map(index.__getitem__, vehicles), np.int64, len(vehicles))
        except KeyError:
            for vehicle in vehicles:
                if vehicle not in index:
                    index[vehicle] = len(self.vehicles)
                    self.vehicles.append(vehicle)
            self._grow(len(self.vehicles))
            return np.fromiter(map(index.__getitem__, vehicles), np.int64, len(vehicles))

    def _grow(self, count: int) -> None:
        capacity = len(self._changed)
        if count <= capacity:
            return
        more = max(count, 2 * capacity, 1_024) - capacity
        floats, counts, ints = self._rows(more)
        old = self.arrays
        self.arrays = State(
            np.concatenate([old.floats, floats]),
            np.concatenate([old.counts, counts]),
            np.concatenate([old.ints, ints]),
            old.clock,
        )
        start = np.array([self.q_fleet[digest] for digest in self.q_fleet], np.float32)
        new = np.repeat(start[:, None], more, axis=1)
        self.quantiles = np.concatenate([self.quantiles, new], axis=1)
        self._changed = np.concatenate([self._changed, np.zeros(more, np.bool_)])

    def model_row(self, digest: str, q_fleet: float) -> int:
        """The row of `quantiles` that belongs to a model; one that is new starts at the fleet's quantile."""
        if digest not in self.q_fleet:
            self.q_fleet[digest] = q_fleet
            row = np.full((1, len(self._changed)), q_fleet, np.float32)
            self.quantiles = np.concatenate([self.quantiles, row])
        return list(self.q_fleet).index(digest)

    def cohort_ids(self, keys: Sequence[str | None]) -> NDArray[np.int64]:
        """Numbers of n cohorts, int64[n], -1 for None; one that is new gets the next, and empty histograms."""
        new = [key for key in dict.fromkeys(keys) if key is not None and key not in self.cohort_keys]
        if new:
            self.cohort_keys |= {key: number for number, key in enumerate(new, start=len(self.cohort_keys))}
            old, more = self.cohorts, self._cohort_rows(len(new))
            self.cohorts = Cohorts(
                np.concatenate([old.histogram, more.histogram]),
                np.concatenate([old.shift, more.shift]),
                np.concatenate([old.period, more.period]),
                np.concatenate([old.vehicles, more.vehicles]),
                np.concatenate([old.ahead, more.ahead]),
            )
        numbers = self.cohort_keys
        found = np.fromiter((-1 if key is None else numbers[key] for key in keys), np.int64, len(keys))
        self._touch_cohorts(found)
        return found

    def touch(self, slots: NDArray[np.int64]) -> None:
        """Remember that these slots are about to change, and the cohorts that they are in."""
        self._changed[slots] = True
        if self.cohort_keys:
            self._touch_cohorts(self.arrays.ints[slots, layout.COHORT])

    def _touch_cohorts(self, numbers: NDArray[np.int64]) -> None:
        self._changed_cohorts |= set(np.unique(numbers).tolist()) - {-1}

    def save(self, waiting: list[tuple[str, str, int]] | None, everything: bool) -> bytes:
        """Bytes of what changed since the last `save`, or of everything; `waiting` are the restarts to come, None
        where they are those of the last `save`."""
        count = len(self.vehicles)
        slots = np.arange(count) if everything else np.flatnonzero(self._changed[:count])
        first_new = 0 if everything else self._saved_vehicles
        state, cohorts = self.arrays, self.cohorts
        rows = np.array(sorted(self._changed_cohorts), np.int32)
        if everything:
            rows = np.arange(len(self.cohort_keys), dtype=np.int32)
        saved = Saved(
            version=VERSION,
            frame=self._frame.digest,
            signals=self._signals,
            slots=slots.astype(np.int32).tobytes(),
            first_new=first_new,
            new=self.vehicles[first_new:],
            floats=state.floats[slots].tobytes(),
            counts=state.counts[slots].tobytes(),
            ints=state.ints[slots].tobytes(),
            clock=state.clock.tobytes(),
            quantiles={key: self.quantiles[row, slots].tobytes() for row, key in enumerate(self.q_fleet)},
            q_fleet=dict(self.q_fleet),
            waiting=waiting,
            cohort_keys=list(self.cohort_keys),
            cohort_rows=rows.tobytes(),
            cohorts=(
                cohorts.histogram[rows].tobytes(),
                cohorts.shift[rows].tobytes(),
                cohorts.period[rows].tobytes(),
                cohorts.vehicles[rows].tobytes(),
                cohorts.ahead[rows].tobytes(),
            ),
        )
        self._changed[:] = False
        self._changed_cohorts.clear()
        self._saved_vehicles = count
        return msgspec.msgpack.encode(saved)

    def load(self, blob: bytes) -> list[tuple[str, str, int]] | None:
        """Take over what `save` wrote, a whole one first, then changes in order; answers `waiting` as it was saved.

        Raises StateError if the bytes are newer than this program, of another frame, or out of order.
        """
        saved = self._decode(blob)
        if saved.first_new > len(self.vehicles):
            raise StateError(
                f"state starts at vehicle {saved.first_new}, {len(self.vehicles)} are known: one is missing"
            )
        self.slots(saved.new)
        slots = np.frombuffer(saved.slots, np.int32)
        count = len(slots)
        for array, data in (
            (self.arrays.floats, saved.floats),
            (self.arrays.counts, saved.counts),
            (self.arrays.ints, saved.ints),
        ):
            array[slots] = np.frombuffer(data, array.dtype).reshape(count, array.shape[1])
        self.arrays.clock[:] = np.frombuffer(saved.clock, np.int64)
        for digest, data in saved.quantiles.items():
            row = self.model_row(digest, saved.q_fleet[digest])
            self.quantiles[row, slots] = np.frombuffer(data, np.float32)
        self._load_cohorts(saved)
        self._changed[:] = False
        self._changed_cohorts.clear()
        self._saved_vehicles = len(self.vehicles)
        return saved.waiting

    def _decode(self, blob: bytes) -> Saved:
        try:
            saved = msgspec.msgpack.decode(blob, type=Saved)
        except msgspec.MsgspecError as error:
            raise StateError(f"this is no state of vehicles: {error}") from error
        if saved.version > VERSION:
            raise StateError(f"state version {saved.version} is newer than this program reads ({VERSION}); update it")
        if saved.frame != self._frame.digest or saved.signals != self._signals:
            raise StateError(
                f"the state belongs to frame {saved.frame[:12]}, the model to {self._frame.digest[:12]}; "
                "use a model of that frame, or start again with --fresh-state"
            )
        return saved

    def _load_cohorts(self, saved: Saved) -> None:
        self.cohort_ids(saved.cohort_keys)
        rows = np.frombuffer(saved.cohort_rows, np.int32)
        arrays: tuple[NDArray[Any], ...] = self.cohorts
        for array, data in zip(arrays, saved.cohorts, strict=True):
            array[rows] = np.frombuffer(data, array.dtype).reshape(len(rows), *array.shape[1:])

    def digest(self, waiting: Sequence[tuple[str, str, int]]) -> str:
        """Hex digest of all state, whatever the order in which vehicles and cohorts came."""
        order = np.array(sorted(range(len(self.vehicles)), key=self.vehicles.__getitem__), np.int64)
        state = self.arrays
        ints = state.ints[order]
        ints[:, [layout.HEAD, layout.COHORT]] = 0
        cohorts = [self.cohort_keys[key] for key in sorted(self.cohort_keys)]
        parts: list[bytes] = [
            msgspec.json.encode([[self.vehicles[slot] for slot in order], sorted(self.cohort_keys), sorted(waiting)]),
            state.floats[order].tobytes(),
            state.counts[order].tobytes(),
            ints.tobytes(),
            state.clock[: layout.HEARD + 1].tobytes(),
            *(array[cohorts].tobytes() for array in self.cohorts[:-1]),  # `ahead` depends on the order of slots
            *(self.quantiles[list(self.q_fleet).index(key), order].tobytes() for key in sorted(self.q_fleet)),
        ]
        return hashlib.sha256(b"".join(parts)).hexdigest()
