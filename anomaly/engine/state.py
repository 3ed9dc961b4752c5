"""State of all vehicles of one engine: slots, records, and their bytes. No file: the service writes the bytes down."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.compile import direct
from anomaly.engine import layout
from anomaly.engine.cohorts import CohortTable
from anomaly.engine.frame import Frame
from anomaly.engine.layout import Places, Policies, State
from anomaly.engine.observe import fresh
from anomaly.engine.saved import VERSION, Idle, Rest, Saved, Waiting, check, decoded, lengths
from anomaly.engine.silence import limit, unheard
from anomaly.engine.snapshot import Snapshot, may_stir
from anomaly.errors import StateError
from anomaly.memory import reserved
from anomaly.telemetry.hash_table import MOST
from anomaly.telemetry.index import Index
from anomaly.telemetry.text import Text

PAGE = 16_384
"""Vehicles in a page of the state's bytes."""
PIECE = 16_384
"""Vehicles in a piece of a delta at most."""
SPARE = 65_536
"""Slots beyond the capacity: as many new vehicles may come in one batch before idle ones have left."""
MODELS = 8
_may_stir = direct(may_stir)


class VehicleState:
    """A record a vehicle, in reserved memory: it grows without a copy; a slot is given again once its vehicle left."""

    def __init__(self, frame: Frame, capacity: int, most_cohorts: int) -> None:
        self._frame = frame
        self._signals = len(frame.signals)
        self.capacity = capacity
        room = min(capacity + SPARE, MOST)
        self.index = Index(room)
        at = Places.of(self._signals, frame.blocks, frame.abrupt_time_constant > 0)
        raw = reserved(room, at.record, np.uint8)
        clock = np.zeros(layout.CLOCK, np.int64)
        clock[[layout.NOW, layout.AHEAD_SLOT, layout.LOOK]] = layout.NEVER, -1, layout.NEVER
        self.arrays = State(
            i8=raw.view(np.int64),
            i4=raw.view(np.int32),
            f4=raw.view(np.float32),
            u2=raw.view(np.uint16),
            u1=raw,
            raw=raw.reshape(-1),
            at=at,
            clock=clock,
        )
        self.cohorts = CohortTable(self._signals, most_cohorts)
        self.q_fleet: dict[str, float] = {}
        self.quantiles: NDArray[np.float32] = reserved(MODELS, room, np.float32)
        self.arms: NDArray[np.int16] = reserved(room, 1, np.int16).reshape(-1)
        self.arm_of_new = -1
        """The arm of a vehicle that comes; -1: it is to be assigned."""
        self._seen: NDArray[np.uint16] = reserved(room, 1, np.uint16).reshape(-1)
        self._touched: NDArray[np.uint32] = reserved(room, 1, np.uint32).reshape(-1)
        self._tick = self._saved_tick = 0
        self._born: list[NDArray[np.int64]] = []
        self._gone: list[NDArray[np.int64]] = []
        self._loaded = False

    @property
    def rhythm(self) -> float:
        """The ticks that usually are between two readings of a vehicle; 0: silence is no matter."""
        return self._frame.rhythm

    def __len__(self) -> int:
        self._settle()
        return len(self.index)

    def slot(self, vehicle: str) -> int | None:
        """The slot of a vehicle that is here."""
        found = int(self.find(Text.of([vehicle]))[0])
        return None if found < 0 else found

    def find(self, vehicles: Text) -> NDArray[np.int64]:
        """Slots of n vehicles, int64[n], -1 for those that are not here."""
        self._settle()
        return self.index.find(vehicles)

    def slots(self, vehicles: Text) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Slots of n vehicles, int64[n], and those that were given now, with the fleet's prior in them."""
        self._settle()
        try:
            slots, new = self.index.number(vehicles)
        except OverflowError as error:
            raise StateError(f"{error}; raise [state] capacity, or give more partitions") from error
        if not len(new):
            return slots, new
        fresh(new, self._signals, np.float32(self._frame.rhythm), self.arrays)
        for row, start in enumerate(self.q_fleet.values()):
            self.quantiles[row, new] = start
        self.arms[new] = self.arm_of_new
        self._born.append(new)
        return slots, new

    def touch(self, slots: NDArray[np.int64]) -> None:
        """Remember that these slots are about to change."""
        self._tick += 1
        self._touched[slots] = self._tick

    def silent(self, before: int, times: np.float32) -> NDArray[np.int64]:
        """Slots of the vehicles that had let `times` of their rhythms pass before a time, and of whose silence nothing
        is told yet, int64[m]."""
        self._settle()
        slots = self.index.used()
        found = np.zeros(len(slots), np.int64)
        return found[: unheard(slots, times, before, self.arrays, found)]

    def limit(self, slot: int, policies: Policies) -> int:
        """The time after which a vehicle is silent."""
        times = policies.k_silence[self.arms[slot]]
        if not np.isfinite(times):
            return int(np.iinfo(np.int64).max)
        return int(limit(int(self.arrays.i8[slot, layout.LAST_TS]), self.arrays.f4[slot, layout.RHYTHM], times))

    def snapshot(self, slots: NDArray[np.int64], rows: tuple[int, int], lasting: int) -> Snapshot | None:
        """Vehicles of the rows [first, end) as they are; None where no decision on these changes features of these."""
        if not _may_stir(slots, rows, lasting, self.arrays, self._seen):
            return None
        return Snapshot.of(slots[rows[0] : rows[1]], self.arrays, self.quantiles, self.cohorts.arrays)

    def restore(self, before: Snapshot | None) -> None:
        """Put the vehicles back to `before`."""
        if before is None:
            raise AssertionError("a decision changed features of its own batch, and `may_stir` did not foresee it")
        before.restore(self.arrays, self.quantiles, self.cohorts.arrays)

    def model_row(self, digest: str, q_fleet: float) -> int:
        """The row of `quantiles` that belongs to a model; one that is new starts at the fleet's quantile."""
        if digest not in self.q_fleet:
            row = len(self.q_fleet)
            if row == len(self.quantiles):
                more = reserved(2 * row, self.quantiles.shape[1], np.float32)
                more[:row, : self.index.high] = self.quantiles[:, : self.index.high]
                self.quantiles = more
            self.q_fleet[digest] = q_fleet
            self.quantiles[row, : self.index.high] = q_fleet
        return list(self.q_fleet).index(digest)

    def evict(self, count: int) -> dict[str, bytes]:
        """Let the `count` vehicles go that were heard of least recently; each by itself, as `revive` takes it."""
        self._settle()
        used = self.index.used()
        used = used[used != self.arrays.clock[layout.AHEAD_SLOT]]
        count = min(count, len(used))
        oldest = used[np.argpartition(self._touched[used], count - 1)[:count]] if count else used[:0]
        names, columns = self.index.names(oldest).tolist(), self.quantiles[: len(self.q_fleet), oldest].T.tolist()
        out = {}
        for slot, name, own in zip(oldest.tolist(), names, columns, strict=True):
            self.arrays.i4[slot, layout.HEAD] = -1
            record = self.arrays.u1[slot].tobytes()
            idle = Idle(
                version=VERSION,
                frame=self._frame.digest,
                record=record,
                quantiles=dict(zip(self.q_fleet, own, strict=True)),
            )
            out[name] = msgspec.msgpack.encode(idle)
        self.index.remove(oldest)
        self._touched[oldest] = 0
        self._gone.append(oldest)
        return out

    def revive(self, slot: int, blob: bytes) -> None:
        """A vehicle that left, back in a new slot as it was. Raises StateError if the bytes do not fit."""
        try:
            idle = msgspec.msgpack.decode(blob, type=Idle)
        except msgspec.MsgspecError as error:
            raise StateError(f"this is no vehicle's state: {error}") from error
        check(idle, self._frame)
        self.arrays.u1[slot] = np.frombuffer(idle.record, np.uint8)
        for row, digest in enumerate(self.q_fleet):
            self.quantiles[row, slot] = idle.quantiles.get(digest, self.q_fleet[digest])

    def delta(self, waiting: Waiting | None) -> Iterator[bytes]:
        """All that changed since the last `delta`, in pieces; `waiting` are the restarts to come, None: as before."""
        self._settle()
        slots = np.flatnonzero(self._touched[: self.index.high] > self._saved_tick)
        born = np.zeros(self.index.high, np.bool_)
        for new in self._born:
            born[new[new < len(born)]] = True
        nothing = slots[:0]
        if self._gone:
            yield msgspec.msgpack.encode(self._saved(nothing, None, np.concatenate(self._gone)))
        for start in range(0, len(slots), PIECE):
            yield msgspec.msgpack.encode(self._saved(slots[start : start + PIECE], born, nothing))
        rest = self.rest(waiting, everything=False)
        yield msgspec.msgpack.encode(msgspec.structs.replace(self._saved(nothing, None, nothing), rest=rest))
        self._saved_tick = self._tick
        self._born, self._gone = [], []
        self.cohorts.forget_changes()

    @property
    def pages(self) -> int:
        """How many pages the whole state has."""
        return -(-self.index.high // PAGE)

    def page(self, number: int) -> bytes:
        """The vehicles of a page, as they are."""
        slots = self.index.used(number * PAGE, min((number + 1) * PAGE, self.index.high))
        born = np.ones(self.index.high, np.bool_)
        return msgspec.msgpack.encode(self._saved(slots, born, slots[:0]))

    def whole(self, waiting: Waiting) -> bytes:
        """What belongs to no vehicle, as it is."""
        saved = self._saved(np.zeros(0, np.int64), None, np.zeros(0, np.int64))
        return msgspec.msgpack.encode(msgspec.structs.replace(saved, rest=self.rest(waiting, everything=True)))

    def rest(self, waiting: Waiting | None, everything: bool) -> Rest:
        """What belongs to no vehicle; of the cohorts, the rows that changed or all."""
        rows = self.cohorts.rows(everything)
        return Rest(
            clock=self.arrays.clock.tobytes(),
            waiting=None if waiting is None else list(waiting),
            cohort_keys=list(self.cohorts.keys),
            cohort_rows=rows.tobytes(),
            cohorts=self.cohorts.saved(rows),
        )

    def _saved(self, slots: NDArray[np.int64], born: NDArray[np.bool_] | None, gone: NDArray[np.int64]) -> Saved:
        run = _run(slots)
        named = slots[:0] if born is None else slots[born[slots]]
        names = self.index.names(named)
        return Saved(
            version=VERSION,
            frame=self._frame.digest,
            record=self.arrays.at.record,
            gone=gone.astype(np.int32).tobytes(),
            slots=slots.astype(np.int32).tobytes(),
            records=_taken(self.arrays.u1, run).tobytes(),
            named=named.astype(np.int32).tobytes(),
            lengths=lengths(names).tobytes(),
            names=names.buffer.tobytes(),
            quantiles={key: _taken(self.quantiles[row], run).tobytes() for row, key in enumerate(self.q_fleet)},
            q_fleet=dict(self.q_fleet),
        )

    def load(self, blob: bytes) -> Waiting | None:
        """Take over pages, then deltas in order; answers the restarts that wait, None: as before.

        Raises StateError if the bytes are of another version, of another frame, or have no room.
        """
        saved = decoded(blob, self._frame, self.arrays.at.record)
        slots = np.frombuffer(saved.slots, np.int32)
        if len(slots) and slots.max() >= len(self.arms):
            raise StateError(f"the state has more than {self.capacity:,} vehicles; raise [state] capacity")
        self.index.clear(np.frombuffer(saved.gone, np.int32).astype(np.int64))
        self.index.place(np.frombuffer(saved.named, np.int32).astype(np.int64), saved.text())
        run, records = _run(slots), np.frombuffer(saved.records, np.uint8)
        self.arrays.u1[run] = records.reshape(len(slots), self.arrays.at.record)
        for digest, data in saved.quantiles.items():
            row = self.model_row(digest, saved.q_fleet[digest])
            self.quantiles[row, run] = np.frombuffer(data, np.float32)
        self._loaded = True
        if saved.rest is None:
            return None
        self.arrays.clock[:] = np.frombuffer(saved.rest.clock, np.int64)
        rows = np.frombuffer(saved.rest.cohort_rows, np.int32)
        self.cohorts.load(saved.rest.cohort_keys, rows, saved.rest.cohorts)
        return saved.rest.waiting

    def _settle(self) -> None:
        """After `load`: make the vehicles searchable; nothing has changed since then."""
        if self._loaded:
            self._loaded = False
            self.index.settle()
            self._touched[: self.index.high] = 0
            self.arms[: self.index.high] = self.arm_of_new
            self._tick = self._saved_tick = 0
            self._born, self._gone = [], []
            self.cohorts.forget_changes()

    def digest(self, waiting: Waiting) -> str:
        """Hex digest of all state, whatever the order in which vehicles and cohorts came."""
        self._settle()
        used = self.index.used()
        vehicles = self.index.names(used).tolist()
        order = used[sorted(range(len(vehicles)), key=vehicles.__getitem__)]
        records = self.arrays.u1[order]
        for column in (layout.HEAD, layout.COHORT):
            records[:, 4 * column : 4 * column + 4] = 0
        parts: Iterator[bytes] | Sequence[Any] = [
            msgspec.json.encode([sorted(vehicles), sorted(self.cohorts.keys), sorted(waiting)]),
            records.tobytes(),
            self.arrays.clock[: layout.HEARD + 1].tobytes(),
            *self.cohorts.in_order(),
            *(self.quantiles[list(self.q_fleet).index(key), order].tobytes() for key in sorted(self.q_fleet)),
        ]
        return hashlib.sha256(b"".join(parts)).hexdigest()


def _run(slots: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]] | slice:
    """Slots as a slice where they follow each other: what lies together is copied at once."""
    follow = len(slots) > 0 and bool((np.diff(slots) == 1).all())
    return slice(int(slots[0]), int(slots[-1]) + 1) if follow else slots


def _taken(array: NDArray[Any], run: NDArray[np.integer[Any]] | slice) -> NDArray[Any]:
    """The rows of a run or of single slots."""
    return array[run] if isinstance(run, slice) else np.take(array, run, axis=0)
