"""One partition from bytes to a checkpoint: decode, restarts, decisions, alerts, log rows, dead letters."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from anomaly.alerts.book import AlertBook
from anomaly.duration import duration_ms
from anomaly.engine.cohorts import Partial
from anomaly.engine.engine import Engine
from anomaly.engine.events import Event, Kept
from anomaly.engine.frame import Frame
from anomaly.fleet import Fleet
from anomaly.service.cohort_periods import Held, Periods, Whose, control_row
from anomaly.service.cohort_periods import letters as partial_letters
from anomaly.service.events import Positions, Told, keep
from anomaly.service.failpoints import failpoint
from anomaly.service.fresh import Fresh
from anomaly.service.letters import alert_letter, dead_letter, reason_class, say
from anomaly.service.metrics import Metrics
from anomaly.service.roll import Roll
from anomaly.service.rollout import Rollout
from anomaly.service.rows import LogRows, cut, cuts_of
from anomaly.service.store import Checkpoint, PartitionStore
from anomaly.service.upkeep import Upkeep
from anomaly.stream.ports import Block
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.decode import Decoder
from anomaly.telemetry.text import Text

ALERT_WITHIN_S = 0.1
"""An alert is written down, and then sent, within this time."""


class Shared(NamedTuple):
    """What the partitions of one process share; `partitions` are all of them, `whose` and `periods` say of cohorts what
    other partitions did: `periods` is empty where there is no other."""

    fleet: Fleet
    frame: Frame
    folder: Path
    group: str
    topic: str
    decoder: Decoder
    metrics: Metrics
    partitions: Mapping[int, PartitionScorer]
    whose: Whose
    periods: list[Periods]


class Scored(NamedTuple):
    """What came of one block."""

    readings: int
    alarms: int
    dead_letters: int


class PartitionScorer:
    """Goes on where `store` stopped; what it does exists once `checkpoint` returned. Times are monotonic seconds."""

    def __init__(self, shared: Shared, partition: int, store: PartitionStore, rollout: Rollout) -> None:
        self.partition = partition
        self.store = store
        self._fresh = Fresh()
        self._waits, self._idles = store.waits(), store.idles()
        self.engine = Engine(shared.fleet, shared.frame, self._recall, self._revive, self._kept, shared.metrics.stages)
        if shared.periods:
            self.engine.set_apart()
        self.engine.apply(store.state())
        self.book = AlertBook()
        self.book.restore(store.alerts().items())
        self.next_offset = store.offset()
        self.positions: Positions = store.positions()
        self.has_letters = bool(store.pending(1))
        self._shared = shared
        self._name = cuts_of(shared.group, shared.topic, partition)
        self._upkeep = Upkeep(shared.folder, shared.fleet)
        self._rows = LogRows(shared.fleet, partition, shared.frame.digest)
        sizes = store.sizes()
        self._roll = Roll(sizes, store.last_delta())
        self._rows_bytes, self._cut_s = sizes.rows, time.monotonic()
        self._rollout = rollout
        self._to_use: Rollout | None = rollout
        self._buried = 0
        self._held = Held()
        self._late, self._said_left_out = self.engine.late, False
        self._quiet: set[int] = set()

    def begin(self, offset: int, now_s: float) -> None:
        """Read from `offset` on, where nothing says yet how far the partition is; that is written down at once."""
        self.next_offset = offset
        self._fresh.until(now_s)

    def use(self, rollout: Rollout) -> None:
        """Score with `rollout` from the next block on."""
        self._to_use = rollout

    def tell(self, messages: Sequence[Told], positions: Positions, now_s: float) -> None:
        """Take in what came on the topics that are read whole, up to `positions`; what is known is passed over."""
        if positions == self.positions:
            return
        new = [told for told in messages if told.offset >= self.positions.get(told.topic, {}).get(told.partition, 0)]
        events = [event for told in new for event in told.events]
        late = self.engine.add_events([event for event in events if self.engine.knows(event.vehicle)])
        for event in events:
            if not self.engine.knows(event.vehicle):
                self._fresh.unseen.setdefault(event.vehicle, []).append(event)
        self._shared.metrics.late_events.inc(late)
        if self.partition == 0:  # so that of all partitions one writes it
            for told in new:
                if told.failure is not None:
                    self._bury(told.topic, told.partition, told.offset, told.failure, told.payload)
            keep(self._shared.fleet, new, self._shared.folder)
        self.positions = {topic: dict(offsets) for topic, offsets in positions.items()}
        self._fresh.until(now_s + self._shared.fleet.stream.checkpoint_every_s)

    def _recall(self, vehicles: Sequence[str]) -> list[Event]:
        """The events that waited for vehicles that are seen now for the first time.

        Most events are of vehicles of other partitions, so that they wait in the store and cost no memory.
        """
        found = [event for vehicle in vehicles for event in self._fresh.unseen.get(vehicle, ())]
        found += self.store.waiting(vehicles) if self._waits else []
        self._fresh.met += [event.vehicle for event in found]
        return found

    def _revive(self, vehicles: Sequence[str]) -> dict[str, bytes]:
        """The state of those of the vehicles that were let go, and that are no longer away."""
        fresh = self._fresh
        found = {vehicle: fresh.idle.pop(vehicle) for vehicle in vehicles if vehicle in fresh.idle}
        if self._idles:
            stored = self.store.idle([vehicle for vehicle in vehicles if vehicle not in found])
            fresh.returned += stored
            found |= stored
        return found

    def has(self, vehicles: Text) -> NDArray[np.bool_]:
        """Which of n vehicles belong to this partition, bool[n]."""
        found = np.ones(len(vehicles), np.bool_)
        unknown = self.engine.unknown(vehicles)
        found[unknown] = False
        if len(unknown) and (self._idles or self._fresh.idle):
            names = vehicles.take(unknown).tolist()
            away = self._fresh.idle.keys() | self.store.idle(names).keys()
            found[unknown] = [name in away for name in names]
        return found

    def process(self, block: Block, now_s: float) -> Scored:
        """Decide all readings of `block`, which follows the last one."""
        buried = self._buried
        self._switch(int(block.offsets[0]))
        decoded = self._shared.decoder.decode(block.values, block.offsets)
        self._shared.metrics.stages("decode")
        for failure in decoded.failures:
            offset = int(block.offsets[failure.position])
            self._bury(self._shared.topic, self.partition, offset, failure.reason, block.values[failure.position])
        for name, times in decoded.unknown.items():
            self._shared.metrics.count_unknown(name, times)
        batch = self._at_home(decoded.batch, block)
        alarms = self._take(batch, now_s)
        if not self.waits:
            self._passed(int(block.offsets[-1]) + 1)
        self._held.end = int(block.offsets[-1]) + 1
        self._fresh.readings += len(batch)
        self._shared.metrics.stages.readings += len(batch)
        self._fresh.until(now_s + self._shared.fleet.stream.checkpoint_every_s)
        return Scored(len(batch), alarms, self._buried - buried)

    def _passed(self, offset: int) -> None:
        """All before `offset` is decided."""
        self._fresh.idle |= self.engine.evict()
        self._shared.metrics.stages("slot")
        self.next_offset = offset

    def _take(self, batch: Batch, now_s: float) -> int:
        """Decide readings, up to one that waits for what other partitions counted; answers how many alarm."""
        most, alarms = self._shared.fleet.stream.batch, 0
        while len(batch):
            taken, found = self._decide(batch.rows(0, min(most, len(batch))), now_s)
            alarms += found
            stopped = taken < min(most, len(batch))
            batch = batch.rows(taken, len(batch))
            if stopped and not self._merge(int(batch.offsets[0]), now_s):
                break
        self._held.batch = batch if len(batch) else None
        if len(batch):
            self._passed(int(batch.offsets[0]))
        return alarms

    @property
    def waits(self) -> bool:
        """Whether a reading waits for what other partitions counted."""
        return self._held.batch is not None

    @property
    def moved(self) -> bool:
        """Whether the last `go_on` led further."""
        return self._held.moved

    def hold(self, block: Block) -> None:
        """Messages that follow those that wait."""
        self._held.blocks.append(block)

    def go_on(self, now_s: float) -> Scored:
        """Decide what waited, as far as that is possible by now; the alarms of it."""
        held, before = self._held, self.engine.awaited
        readings = alarms = dead_letters = 0
        if held.batch is not None:
            if self._merge(int(held.batch.offsets[0]), now_s):
                alarms = self._take(held.batch, now_s)
                self._fresh.until(now_s + self._shared.fleet.stream.checkpoint_every_s)
            if not self.waits:
                self._passed(held.end)
        while held.blocks and not self.waits:
            scored = self.process(held.blocks.pop(0), now_s)
            readings, alarms = readings + scored.readings, alarms + scored.alarms
            dead_letters += scored.dead_letters
        held.moved = self.engine.awaited != before
        return Scored(readings, alarms, dead_letters)

    def _merge(self, offset: int, now_s: float) -> bool:
        """Take in what all partitions counted in the next period; False while one has still to tell."""
        (periods,), held, shared = self._shared.periods, self._held, self._shared
        partial, missing = periods.merged(self.engine.awaited)
        if missing:
            if held.period != partial.period:
                held.period, held.since_s = partial.period, now_s
            if now_s - held.since_s < duration_ms(shared.fleet.context.max_wait) / 1_000:
                held.say(self.partition, partial.period, missing, now_s)
                return False
            shared.metrics.incomplete_periods.inc()
            structlog.get_logger().warning(
                "a period of the cohorts is used without what other partitions counted",
                partition=self.partition, period=partial.period, missing=missing,
            )  # fmt: skip
        self.engine.merge(partial)
        if periods.speaker(partial.period) != self.partition:
            self._quiet.add(partial.period)
        self._fresh.control.append(control_row(offset, partial, missing, shared.frame.period))
        self._fresh.changed = True
        return True

    def tell_idle(self, now_s: float) -> None:
        """That no vehicle was seen here, up to the last period that another partition closed."""
        (periods,) = self._shared.periods
        newest = periods.newest
        if newest is not None and self.engine.skip_to(newest):
            self._publish(Partial(newest, {}), now_s)

    def _publish(self, partial: Partial, now_s: float) -> None:
        self._fresh.letters += partial_letters(self._shared.fleet, self._shared.whose, self.partition, partial)
        self._fresh.until(now_s)

    def _decide(self, batch: Batch, now_s: float) -> tuple[int, int]:
        """Decide the first readings of `batch`; answers how many, and how many of them alarm."""
        started_s = time.perf_counter()
        shared, arms = self._shared, self._rollout.arms
        outcome = self.engine.decide(batch)
        batch = batch.rows(0, len(outcome.status))
        failpoint("batch.after_decide")
        if shared.periods:
            for partial in self.engine.closed():
                self._publish(partial, now_s)
        shared.metrics.late_for_cohorts.inc(self.engine.late - self._late)
        self._late = self.engine.late
        self._say_left_out()
        alerts = self.book.apply(outcome, batch, shared.fleet, arms, self._quiet)
        self._quiet = set()
        self._fresh.letters += [alert_letter(shared.fleet.topic("alerts"), alert) for alert in alerts]
        if alerts:
            self._fresh.until(now_s + ALERT_WITHIN_S)
        for alert in alerts:
            shared.metrics.alerts.labels(alert.state).inc()
        say(alerts)
        if not len(batch):
            return 0, 0
        self._fresh.log_applied(outcome.applied, batch)
        self._rows.add(outcome, batch, arms)
        shared.metrics.count(outcome)
        shared.metrics.batch_s.observe(time.perf_counter() - started_s)
        shared.metrics.stages("log")
        return len(batch), int(outcome.decisions.alarm.sum())

    def _say_left_out(self) -> None:
        """Once: vehicles of cohorts that are too many go without."""
        if self.engine.left_out and not self._said_left_out:
            self._said_left_out = True
            structlog.get_logger().warning(
                "more cohorts than [context] max_cohorts: vehicles of the others go without",
                max_cohorts=self._shared.fleet.context.max_cohorts,
            )

    def _switch(self, offset: int) -> None:
        """Put a rollout that waits into force; it is on the control log if it is another one than the last."""
        if self._to_use is None:
            return
        self._rollout, self._to_use = self._to_use, None
        self.engine.use(self._rollout.arms, self._rollout.assign)
        fleet = msgspec.json.encode(self._shared.fleet, order="deterministic")
        self._fresh.note(self.store, offset, "models", self._rollout.payload)
        self._fresh.note(self.store, offset, "fleet", fleet)

    def _kept(self, vehicle: str, event: str) -> Kept | None:
        """The baseline that a restart ended, from the control log: that of since the last checkpoint, or the store."""
        return self._fresh.kept(vehicle, event) or self.store.kept(vehicle, event)

    def _at_home(self, batch: Batch, block: Block) -> Batch:
        """The readings of vehicles that belong to this partition; others are dead letters."""
        others = [scorer for number, scorer in self._shared.partitions.items() if number != self.partition]
        unknown = np.flatnonzero(~self.has(batch.vehicles)) if others and len(batch) else np.zeros(0, np.int64)
        homes: dict[int, int] = {}
        for other in others if len(unknown) else ():
            found = unknown[other.has(batch.vehicles.take(unknown))]
            homes |= dict.fromkeys(found.tolist(), other.partition)
        if not homes:
            return batch
        told: set[int] = set()
        for row in sorted(homes):
            offset, vehicle = int(batch.offsets[row]), batch.vehicles[row]
            if offset not in told:
                told.add(offset)
                reason = (
                    f"partition: vehicle {vehicle} belongs to partition {homes[row]}, this came in "
                    f"{self.partition}; key messages by vehicle"
                )
                payload = block.values[int(np.searchsorted(block.offsets, offset))]
                self._bury(self._shared.topic, self.partition, offset, reason, payload)
        return batch.take(np.delete(np.arange(len(batch)), list(homes)))

    def _bury(self, topic: str, partition: int, offset: int, reason: str, payload: bytes) -> None:
        place = topic, partition, offset
        self._fresh.letters.append(dead_letter(self._shared.fleet.topic("dead-letters"), place, reason, payload))
        self._buried += 1
        self._shared.metrics.dead_letters.labels(reason_class(reason)).inc()

    def due(self, now_s: float) -> bool:
        """Whether a checkpoint must be written now."""
        many = self._fresh.readings >= self._shared.fleet.stream.checkpoint_every_readings
        return (self._fresh.changed and (many or now_s >= self._fresh.due_s)) or self._cut_due(now_s)

    @property
    def due_s(self) -> float:
        """When the next checkpoint must be written."""
        return self._fresh.due_s

    def checkpoint(self, now_s: float) -> None:
        """Write down everything since the last one, and cut log files when that is due."""
        if self._fresh.changed:
            self._write()
        if self._cut_due(now_s):
            cut(self.store, self._shared.folder, self._shared.fleet, self._name)
            self._rows_bytes = 0
            self._cut_s = now_s
            self._upkeep.turn(self.store)

    def _cut_due(self, now_s: float) -> bool:
        log = self._shared.fleet.log
        full = self._rows_bytes >= log.cut_every_mb * 1e6
        return self._rows_bytes > 0 and (full or now_s - self._cut_s >= log.cut_every_s)

    def _write(self) -> None:
        started_s = time.perf_counter()
        fresh, rows = self._fresh, self._rows.take()
        pages = self._roll.pages(self.engine)
        last, size = self.store.checkpoint(
            Checkpoint(
                offset=self.next_offset,
                deltas=self.engine.delta(),
                positions=self.positions,
                control=fresh.control,
                alerts=dict(self.book.changed()),
                outbox=fresh.letters,
                rows=rows,
                waiting=[event for events in fresh.unseen.values() for event in events],
                met=fresh.met,
                pages=pages,
                superseded=self._roll.superseded,
                idle=fresh.idle,
                returned=fresh.returned,
            )
        )
        self._roll.written(last, size, pages)
        self._waits = self._waits or bool(fresh.unseen)
        self._idles = self._idles or bool(fresh.idle)
        self.has_letters = self.has_letters or bool(fresh.letters)
        self._fresh = Fresh()
        self._rows_bytes += sum(len(part.ipc) for part in rows)
        metrics = self._shared.metrics
        metrics.state_bytes.labels(str(self.partition)).set(self._roll.size)
        metrics.checkpoint_s.observe(time.perf_counter() - started_s)
