"""Score the past again, with the control log, and compare with what was logged: there must be no difference."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from anomaly.alerts.text import when
from anomaly.engine.engine import Engine
from anomaly.engine.events import Kept
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm
from anomaly.engine.outcome import Outcome
from anomaly.engine.view import VehicleView
from anomaly.errors import DataError, StateError
from anomaly.feedback import decisions, shadow_log
from anomaly.feedback.archive import read_table, reading_schema
from anomaly.feedback.silences import silence_table
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.cohort_periods import recorded_partial
from anomaly.service.compare import Replayed, Since, compare
from anomaly.service.events import read
from anomaly.service.rollout import Rollout, Rollouts
from anomaly.service.rows import SHADOW, read_archive, read_decisions, read_log
from anomaly.service.stored import Control, StoreReader, partition_of_store, store_paths
from anomaly.stream.ports import Log
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.decode import Decoder
from anomaly.telemetry.files import read_history

CHUNK = 4_096
T = TypeVar("T")


class Run(NamedTuple):
    """A run that is replayed: its folder and group, and the registry with its models."""

    folder: Path
    group: str
    registry: Registry


Watch = Callable[[Outcome, Batch, NDArray[np.int64]], None]


class Player:
    """One partition's past, offsets `start` to `end` (excluded), decided again in the order of the stream.

    `watch` is given each outcome with its batch and the positions of the decisions that the log keeps.
    """

    def __init__(self, fleet: Fleet, run: Run, store: Path, scratch: Path) -> None:
        self._fleet = fleet
        self._partition = partition_of_store(store)
        self._rollouts = Rollouts(run.registry, fleet.name, run.folder / "experiments")
        self._scratch = scratch
        recorded = _recorded(store)
        self._control = recorded.control
        self.start, self.end = self._control[0].offset, recorded.end
        self._rollout, frame = self._repeat(next(row for row in self._control if row.kind == "models"))
        self._kept: dict[tuple[str, str], Kept] = {}
        self._engine = Engine(fleet, frame, kept=lambda vehicle, event: self._kept.get((vehicle, event)))
        self._merges = [row for row in self._control if row.kind == "cohorts"]
        if self._merges:
            self._engine.set_apart()
        self._vehicles = _vehicles(fleet, frame, recorded)
        self.watch: Watch = lambda _outcome, _batch, _rows: None
        self.shadows: list[Any] = []

    def play(self, batch: Batch) -> list[Any]:
        """Decision tables of `batch`, which follows the last one; what the scorer did not take is left out.

        Those of the shadow log are added to `shadows`.
        """
        return [table for outcome, part in self._decided(batch) for table in self._tables(outcome, part)]

    def follow(self, batch: Batch, vehicle: str) -> Iterator[tuple[Outcome, Batch, int]]:
        """`batch` decided like `play` does; (outcome, readings, row among the decisions) for each of one vehicle."""
        for outcome, part in self._decided(batch):
            for place, row in enumerate(outcome.decisions.row.tolist()):
                if part.vehicles[row] == vehicle:
                    yield outcome, part, place

    def _decided(self, batch: Batch) -> Iterator[tuple[Outcome, Batch]]:
        """`batch` in the parts between which something was on the control log, and what came of each."""
        taken = [row for row, vehicle in enumerate(batch.vehicles) if vehicle in self._vehicles]
        batch = batch.take(np.array(taken, np.int64))
        batch = batch.rows(*np.searchsorted(batch.offsets, [self.start, self.end]).tolist())
        start = 0
        while self._control and len(batch) and self._control[0].offset <= batch.offsets[-1]:
            row = self._control.pop(0)
            stop = int(np.searchsorted(batch.offsets, row.offset))
            yield from self._decide(batch.rows(start, stop))
            start = stop
            self._act(row)
        yield from self._decide(batch.rows(start, len(batch)))

    def play_rows(self, batch: Batch) -> list[Any]:
        """The same for readings without offsets: restarts act by their time. DataError if models changed."""
        if sum(row.kind == "models" for row in self._control) > 1:
            raise DataError("models changed during the run, and this file has no offsets to say when: replay the log")
        for row in self._control:
            self._act(row)
        self._control = []
        self.start, self.end = 0, len(batch) + 1
        return [table for start in range(0, len(batch), CHUNK) for table in self.play(batch.rows(start, start + CHUNK))]

    def vehicle(self, vehicle: str) -> tuple[VehicleView | None, Arm]:
        """The vehicle after what was played so far, and the arm that it is in."""
        return self._engine.vehicle(vehicle), self._rollout.arms[self._rollout.assign(vehicle)]

    def shares(self, vehicle: str) -> list[float]:
        """The share of each signal in the vehicle's score after what was played so far."""
        return self._engine.shares(vehicle)

    def _act(self, row: Control) -> None:
        if row.kind == "models":
            self._rollout, _ = self._repeat(row)
            self._engine.use(self._rollout.arms, self._rollout.assign)
        elif row.kind == "event":
            event, kept = read(row.payload)
            if kept is not None:
                self._kept[event.vehicle, event.id] = kept
            self._engine.add_events([event])

    def _repeat(self, row: Control) -> tuple[Rollout, Frame]:
        return self._rollouts.repeat(row.payload, self._scratch / row.digest)

    def _tables(self, outcome: Outcome, batch: Batch) -> Iterator[Any]:
        kept = decisions.keep(outcome, batch, self._fleet)
        self.watch(outcome, batch, kept)
        yield decisions.decision_table(outcome, batch, self._rollout.arms, self._fleet, self._partition, kept)
        if len(outcome.shadows.row):
            rows = shadow_log.compared(outcome, batch)
            self.shadows.append(shadow_log.shadow_table(rows, self._rollout.arms, self._fleet, self._partition))
        if len(outcome.silences.row):
            yield silence_table(outcome.silences, self._rollout.arms, self._fleet, self._partition)

    def _decide(self, batch: Batch) -> Iterator[tuple[Outcome, Batch]]:
        """All of `batch`, in the parts between which the run took in what other partitions counted."""
        while len(batch):
            outcome = self._engine.decide(batch)
            yield outcome, batch.rows(0, len(outcome.status))
            batch = batch.rows(len(outcome.status), len(batch))
            if len(batch):
                self._merge()

    def _merge(self) -> None:
        """What the run had of the other partitions where it needed it."""
        if not self._merges:
            raise DataError("the control log ends before the readings: it does not say what other partitions counted")
        self._engine.merge(recorded_partial(self._merges.pop(0)))


class _Recorded(NamedTuple):
    control: list[Control]
    end: int
    state: list[bytes]
    away: list[str]


def _recorded(path: Path) -> _Recorded:
    """What a store says of its run since it last started over."""
    store = StoreReader(path)
    control, offset, state = store.control(), store.offset(), list(store.state())
    away = store.away()
    store.close()
    started = max((place for place, row in enumerate(control) if row.kind == "fresh"), default=-1)
    control = control[started + 1 :]
    if offset is None or not control:
        raise StateError(f"{path} holds no run yet; there is nothing to replay")
    changes = [row.offset for row in control if row.kind == "fleet"]
    if len(changes) > 1:
        raise DataError(f"{path}: the fleet file changed at offset {changes[1]}; only a run with one can be replayed")
    return _Recorded(control, offset, state, away)


def _vehicles(fleet: Fleet, frame: Frame, recorded: _Recorded) -> frozenset[str]:
    engine = Engine(fleet, frame)
    engine.apply(recorded.state)
    return frozenset([*engine.vehicles, *recorded.away])


class _Players:
    """The owner of a replay's source: a player for each partition that something was scored of."""

    def __init__(self, fleet: Fleet, run: Run, scratch: Path) -> None:
        self.players = {partition_of_store(path): Player(fleet, run, path, scratch) for path in stores(fleet, run)}

    def assigned(self, partitions: Sequence[int]) -> Mapping[int, int | None]:
        """Begin where the run began."""
        return {number: player.start for number, player in self.players.items() if number in partitions}

    def revoked(self, partitions: Sequence[int]) -> None:
        """Nothing is kept."""


def stores(fleet: Fleet, run: Run) -> list[Path]:
    """The stores of the fleet's telemetry in which a run is recorded."""
    topic = fleet.topic("telemetry")
    found = []
    for path in store_paths(run.folder, run.group):
        store = StoreReader(path)
        if path.stem.rpartition("-")[0] == topic and store.offset() is not None and store.last_control("models"):
            found.append(path)
        store.close()
    if not found:
        raise StateError(f"{run.folder / 'state' / run.group} holds no run of {topic}; there is nothing to replay")
    return found


def replay_log(fleet: Fleet, run: Run, log: Log, since: Since) -> Replayed:
    """Replay all partitions of the log from where the run began. PeerError if messages are gone by now."""
    tables: list[Any] = []
    decoder = Decoder(fleet)
    with tempfile.TemporaryDirectory() as scratch:
        owner = _Players(fleet, run, Path(scratch))
        source = log.source(fleet.topic("telemetry"), f"{run.group}.replay", owner, "earliest")
        try:
            while (blocks := source.poll(CHUNK, 1.0)) or not source.lag() or any(source.lag().values()):
                for block in blocks:
                    player = owner.players.get(block.partition)
                    if player is not None:
                        tables += player.play(decoder.decode(block.values, block.offsets).batch)
        finally:
            source.close()
    return _placed(run, owner.players, tables, since)


def replay_archive(fleet: Fleet, run: Run, since: Since, path: Path | None = None) -> Replayed:
    """Replay the run's own archive, or the one in `path` (a file or a folder)."""
    table = read_archive(run.folder, fleet, run.group) if path is None else _archive(path, fleet)
    tables: list[Any] = []
    with tempfile.TemporaryDirectory() as scratch:
        owner = _Players(fleet, run, Path(scratch))
        for partition, batch in by_partition(table, fleet):
            player = owner.players.get(partition)
            tables += player.play(batch) if player is not None else []
    return _placed(run, owner.players, tables, since)


def replay_file(fleet: Fleet, run: Run, path: Path, since: Since) -> Replayed:
    """Replay an archive, or any other file of readings in stable order of its time."""
    if _is_archive(path):
        return replay_archive(fleet, run, since, path)
    batch = read_history(path, fleet)
    with tempfile.TemporaryDirectory() as scratch:
        players = _Players(fleet, run, Path(scratch)).players.values()
        tables = [table for player in players for table in player.play_rows(batch)]
    span = int(batch.ts.min()), int(batch.ts.max())
    logged = [_of_time(table, *span) for table in _logged(run)]
    return _compare(logged, [tables, [table for player in players for table in player.shadows]], since, placed=False)


def _logged(run: Run) -> list[Any]:
    """The decision log of a run, and its shadow log."""
    return [read_decisions(run.folder, run.group), read_log(run.folder, SHADOW, shadow_log.schema(), run.group)]


def _placed(run: Run, players: Mapping[int, Player], tables: list[Any], since: Since) -> Replayed:
    """What was replayed against what the run itself logged."""
    shadows = [table for player in players.values() for table in player.shadows]
    return _compare([_of_run(table, players) for table in _logged(run)], [tables, shadows], since, placed=True)


def _compare(logged: list[Any], replayed: list[list[Any]], since: Since, placed: bool) -> Replayed:
    """Decisions and shadows, `logged` and `replayed`."""
    import pyarrow as pa

    sides = [
        compare(table, pa.concat_tables([table.schema.empty_table(), *again]).unify_dictionaries(), since, placed)
        for table, again in zip(logged, replayed, strict=True)
    ]
    return sides[0].beside(sides[1])


def _of_run(logged: Any, players: Mapping[int, Player]) -> Any:
    """Those that the run itself logged: an earlier one may have logged others, and it may still go on."""
    partition, offset = logged["partition"].to_numpy(), logged["offset"].fill_null(-1).to_numpy()
    own = np.zeros(len(logged), np.bool_)
    for number, player in players.items():
        placed = (offset >= player.start) & (offset < player.end)
        own |= (partition == number) & (placed | (offset < 0))
    return logged.filter(own)


def _of_time(logged: Any, first: int, last: int) -> Any:
    import pyarrow.compute as pc

    return logged.filter(pc.and_(pc.greater_equal(logged["ts"], first), pc.less_equal(logged["ts"], last)))


def _parquet(path: Path) -> list[Path]:
    return sorted(path.rglob("*.parquet")) if path.is_dir() else [path]


def _is_archive(path: Path) -> bool:
    """Whether the readings of a file, or of a folder's files, say where in the stream they were."""
    import pyarrow.parquet as pq

    files = _parquet(path)
    if not files:
        raise DataError(f"{path} holds no Parquet file")
    return files[0].suffix == ".parquet" and {"partition", "offset"} <= set(pq.ParquetFile(files[0]).schema_arrow.names)


def _archive(path: Path, fleet: Fleet) -> Any:
    folder = path if path.is_dir() else path.parent
    return read_table(folder, reading_schema(fleet), [file.relative_to(folder).as_posix() for file in _parquet(path)])


class Asked(NamedTuple):
    """A vehicle of a run that a person asks for, now or at a time in the past."""

    fleet: Fleet
    run: Run
    vehicle: str
    at: int | None

    def find(self, look: Callable[[Path], T | None]) -> T:
        """What `look` finds in the partition, by its store, that has the vehicle. Raises DataError if none has."""
        for path in stores(self.fleet, self.run):
            found = look(path)
            if found is not None:
                return found
        then = "" if self.at is None else f" at or before {when(self.at, self.fleet.fleet.time_unit)}"
        raise DataError(f"no reading of vehicle {self.vehicle} was scored by group {self.run.group}{then}")

    def readings(self, partition: int) -> Batch | None:
        """What the archive has of a partition up to the vehicle's last reading then; None where it has none of it."""
        for number, batch in by_partition(read_archive(self.run.folder, self.fleet, self.run.group), self.fleet):
            if number == partition:
                own = [row for row, name in enumerate(batch.vehicles) if name == self.vehicle]
                past = [row for row in own if self.at is None or batch.ts[row] <= self.at]
                return batch.rows(0, past[-1] + 1) if past else None
        return None


def by_partition(table: Any, fleet: Fleet) -> Iterator[tuple[int, Batch]]:
    """(partition, its readings in the order of the stream) of archived readings."""
    partition, offset = table["partition"].to_numpy(), table["offset"].to_numpy()
    for number in np.unique(partition).tolist():
        rows = np.flatnonzero(partition == number)
        part = table.take(rows[np.argsort(offset[rows], kind="stable")])
        values = np.column_stack([part[name].to_numpy() for name in fleet.columns]).astype(np.float32)
        context = {field: part[field].to_pylist() for field in fleet.context_fields}
        offsets = part["offset"].to_numpy()
        yield number, Batch.of(part["vehicle"].to_pylist(), part["ts"].to_numpy(), values, context, offsets)
