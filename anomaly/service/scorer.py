"""The scorer: owns partitions of one topic, scores what arrives, and writes down what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import structlog

from anomaly.errors import AnomalyError, ConfigError, PeerError, StateError
from anomaly.feedback.sampling import audit_key
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.cohort_periods import Periods, Whose
from anomaly.service.delivery import Delivery
from anomaly.service.events import Feeds, Told, earliest
from anomaly.service.failpoints import failpoint
from anomaly.service.logs import REPEAT_S, Summary
from anomaly.service.metrics import Listener, Metrics
from anomaly.service.partition import PartitionScorer, Shared
from anomaly.service.rollout import Rollout, Rollouts
from anomaly.service.rows import cuts_of, drop_unrecorded
from anomaly.service.store import LostPartition, PartitionStore
from anomaly.service.stored import Identity, store_path
from anomaly.stream.offsets import no_topic
from anomaly.stream.ports import Block, Log, Source
from anomaly.telemetry.decode import Decoder

IDLE_S = 0.1
"""How long the loop waits for a first message; what has arrived never waits."""
POLL_BATCHES = 4
"""Micro-batches in one poll, so that reading events to their end costs little of it."""
LAG_EVERY_S = 1.0
BACK_OFF_S = 1.0
LOST_S = 60.0
"""A group gives a lost partition to somebody, or back, within this time; where it does not, it would go unread."""
OpenStore = Callable[..., PartitionStore]


class Options(NamedTuple):
    """How a scorer is run: where it writes, as which group, from where, and when it ends."""

    folder: Path
    group: str
    first: Literal["earliest", "latest"] = "earliest"
    fresh_state: bool = False
    stop_at_end: bool = False


class Scorer:
    """A member of a group that scores one fleet's telemetry; `run` returns when it was stopped or is at the end.

    Raises PeerError for a missing topic, ConfigError for a combination that cannot be run.
    """

    def __init__(
        self,
        fleet: Fleet,
        log: Log,
        registry: Registry,
        options: Options,
        metrics: Metrics,
        open_store: OpenStore = PartitionStore,
    ) -> None:
        self._fleet = fleet
        self._log = log
        self._options = options
        self._metrics = metrics
        self._open_store = open_store
        self._topic = fleet.topic("telemetry")
        audit_key(fleet)  # a secret that is not there is said before anything is read
        partitions = self._partitions_of_topic()
        self._rollouts = Rollouts(registry, fleet.name, options.folder / "experiments")
        self._rollout, frame = self._rollouts.read()
        self._identity = Identity(fleet.digest(), frame.digest)
        self._log_line = structlog.get_logger()
        self._say(self._rollout)
        decoder = Decoder(fleet)
        self._partitions: dict[int, PartitionScorer] = {}
        whose = Whose(options.group, frame.digest, partitions)
        self._periods = [Periods(log, fleet, whose)] if partitions > 1 and frame.cohort is not None else []
        self._shared = Shared(
            fleet, frame, options.folder, options.group, self._topic, decoder, metrics, self._partitions, whose,
            self._periods,
        )  # fmt: skip
        self._begun: set[int] = set()
        self._shown: set[int] = set()
        self._lost: dict[int, tuple[float, LostPartition]] = {}
        self._feeds: Feeds | None = None
        self._delivery = Delivery(log.sink(), metrics)
        self._paused: set[int] = set()
        self._moved = False
        self._newest: int | None = None
        self._summary = Summary(time.monotonic())
        self._lag_s = 0.0
        self._stopping = False
        self._broken = False
        self._written = False
        self._source: Source = log.source(self._topic, options.group, self, options.first)

    def _partitions_of_topic(self) -> int:
        topic = self._log.topic(self._topic)
        if topic is None:
            raise no_topic(self._topic, "the log")
        return topic.partitions

    def stop(self) -> None:
        """End `run` after the batch it is at; may be called from a signal handler."""
        self._stopping = True

    def run(self, listener: Listener | None = None) -> None:
        """Score until stopped; then write everything down, send what is to be sent, and leave the group."""
        self._metrics.stages.skip()
        try:
            while not self._stopping:
                if listener is not None:
                    listener.turn()
                if not self._turn() and self._options.stop_at_end and self._at_end():
                    break
            self._summary.write(time.monotonic())
        except BaseException:
            self._broken = True
            raise
        finally:
            self._leave()

    def _turn(self) -> bool:
        """One round: what has arrived, events before readings, then checkpoints that are due. False if idle."""
        blocks = self._source.poll(POLL_BATCHES * self._fleet.stream.batch, self._patience_s())
        self._metrics.stages("poll")
        self._miss(time.monotonic())
        if not self._tell():
            return False
        self._metrics.stages("events")
        self._go_on()
        for block in blocks:
            self._process(block)
        now_s = time.monotonic()
        for scorer in [scorer for scorer in self._partitions.values() if scorer.due(now_s)]:
            self._checkpoint(scorer, now_s)
        if self._written or not blocks:
            self._written = False
            self._reload()
        self._deliver(now_s)
        self._report(now_s)
        self._metrics.stages("rest")
        return bool(blocks)

    def _patience_s(self) -> float:
        """How long to wait for messages: until the next checkpoint is due."""
        if self._moved:
            return 0.0
        due_s = min((scorer.due_s for scorer in self._partitions.values()), default=float("inf"))
        return min(IDLE_S, max(0.0, due_s - time.monotonic()))

    def _process(self, block: Block) -> None:
        """Score a block in micro-batches, with a checkpoint wherever one is due."""
        for start in range(0, len(block.values), self._fleet.stream.batch):
            part = slice(start, start + self._fleet.stream.batch)
            scorer = self._partitions.get(block.partition)
            if scorer is None:
                return
            micro_batch = Block(block.partition, block.offsets[part], block.values[part])
            if scorer.waits:
                scorer.hold(micro_batch)
                continue
            self._summary.add(*scorer.process(micro_batch, time.monotonic()))
            if scorer.due(time.monotonic()):
                self._checkpoint(scorer, time.monotonic())

    def _go_on(self) -> None:
        """Decide what waited for other partitions, and tell them where this one has nothing to count."""
        self._moved = False
        for scorer in [scorer for scorer in self._partitions.values() if scorer.waits]:
            self._summary.add(*scorer.go_on(time.monotonic()))
            self._moved = self._moved or scorer.moved
        if self._periods and self._periods[0].newest != self._newest:
            self._newest = self._periods[0].newest
            lag = self._source.lag()
            for scorer in [scorer for scorer in self._partitions.values() if lag.get(scorer.partition) == 0]:
                scorer.tell_idle(time.monotonic())

    def _tell(self) -> bool:
        """Read events and labels to their end, and tell every partition; False if stopped while that cannot be."""
        if not self._partitions:
            return True
        if self._feeds is None:
            stored = [scorer.positions for scorer in self._partitions.values()]
            self._feeds = Feeds(self._log, self._fleet, earliest(stored))
        messages = self._read_feeds(self._feeds)
        if messages is None:
            return False
        now_s, positions = time.monotonic(), self._feeds.positions
        for scorer in self._partitions.values():
            scorer.tell(messages, positions, now_s)
        return True

    def _read_feeds(self, feeds: Feeds) -> list[Told] | None:
        """What is new; a log that is away is tried again until it answers, or the scorer is stopped (None).

        It is said at first, and then once in REPEAT_S.
        """
        said_s = float("-inf")
        while not self._stopping:
            try:
                for periods in self._periods:
                    periods.read()
                return feeds.read()
            except PeerError as error:
                if time.monotonic() - said_s >= REPEAT_S:
                    said_s = time.monotonic()
                    self._log_line.warning("events cannot be read, trying again", reason=str(error))
                time.sleep(BACK_OFF_S)
        return None

    def _checkpoint(self, scorer: PartitionScorer, now_s: float) -> None:
        """Write down what a partition did; one that is somebody else's by now is let go."""
        try:
            scorer.checkpoint(now_s)
        except LostPartition as error:
            self._let_go(scorer, error)
            return
        self._written = True
        self._tell_group(scorer)
        self._metrics.stages("checkpoint")

    def _let_go(self, scorer: PartitionScorer, error: LostPartition) -> None:
        """Go on without a partition that is somebody else's by now; raises `error` if it was the last one."""
        del self._partitions[scorer.partition]
        scorer.store.close()
        self._lost[scorer.partition] = time.monotonic() + LOST_S, error
        self._log_line.error("partition lost", partition=scorer.partition, reason=str(error))
        if not self._partitions:
            raise error

    def _miss(self, now_s: float) -> None:
        """Raise the error of a partition that was lost, and that the source still counts as this process's."""
        for until_s, error in self._lost.values():
            if now_s >= until_s:
                raise error

    def _tell_group(self, scorer: PartitionScorer) -> None:
        if scorer.next_offset is not None:
            self._source.commit({scorer.partition: scorer.next_offset})

    def _reload(self) -> None:
        """Take up a changed rollout; one that cannot be run is said, and the one in force goes on."""
        if not self._rollouts.changed():
            return
        try:
            rollout, frame = self._rollouts.read()
            if frame.digest != self._identity.frame:
                raise ConfigError(
                    f"the rollout's models have frame {frame.digest[:12]}, the state here {self._identity.frame[:12]}; "
                    "train without --refit-frame, or start again with --fresh-state"
                )
        except AnomalyError as error:
            self._log_line.error("rollout refused, the one in force goes on", reason=str(error))
            return
        self._say(rollout)
        if rollout.payload != self._rollout.payload:
            self._log_line.info("rollout changed", models=[arm.model.name for arm in rollout.arms])
            self._rollout = rollout
            for scorer in self._partitions.values():
                scorer.use(rollout)

    def _say(self, rollout: Rollout) -> None:
        for problem in rollout.problems:
            self._log_line.error("experiment left out", reason=problem)

    def _deliver(self, now_s: float) -> None:
        """Send what checkpoints put into the outboxes; while that fails, nothing more is read.

        Nor is a partition read that waits for another one.
        """
        sendable = self._delivery.send(self._partitions.values(), now_s, self._let_go)
        owned = set(self._partitions)
        wanted = {number for number, scorer in self._partitions.items() if scorer.waits} if sendable else owned
        if wanted - self._paused:
            self._source.pause(sorted(wanted - self._paused))
        if (self._paused & owned) - wanted:
            self._source.resume(sorted((self._paused & owned) - wanted))
        self._paused = wanted

    def _report(self, now_s: float) -> None:
        if now_s - self._lag_s < LAG_EVERY_S:
            return
        self._lag_s = now_s
        lag = self._source.lag()
        for partition in self._shown - lag.keys():
            self._metrics.forget(partition)
        self._shown = set(lag)
        for partition, messages in lag.items():
            self._metrics.lag.labels(str(partition)).set(messages)
        if self._summary.due(now_s):
            self._summary.write(now_s, sum(lag.values()))

    def _at_end(self) -> bool:
        return bool(self._partitions) and not self._paused and not any(self._source.lag().values())

    def _leave(self) -> None:
        try:
            self._source.close()
        finally:
            self._delivery.close()
            for periods in self._periods:
                periods.close()
            if self._feeds is not None:
                self._feeds.close()
            for scorer in self._partitions.values():
                scorer.store.close()

    def assigned(self, partitions: Sequence[int]) -> Mapping[int, int | None]:
        """Take partitions over: their stores are opened, their state restored; see `ports.Owner`."""
        committed = {} if self._options.fresh_state else self._source.committed(partitions)
        for number in partitions:
            self._lost.pop(number, None)
            self._partitions[number] = scorer = self._open(number, committed.get(number))
            name = cuts_of(self._options.group, self._topic, number)
            drop_unrecorded(self._options.folder, name, scorer.store)
        self._begin_at_end()
        if self._feeds is not None:
            self._feeds.close()
            self._feeds = None
        offsets = {number: self._partitions[number].next_offset for number in partitions}
        self._log_line.info("partitions taken over", offsets={str(key): value for key, value in offsets.items()})
        return offsets

    def _begin_at_end(self) -> None:
        """Write down where the end is, for partitions that begin there: what comes from now on is to be scored."""
        new = [scorer for scorer in self._partitions.values() if scorer.next_offset is None]
        if new and self._options.first == "latest":
            topic = self._log.topic(self._topic)
            if topic is None:
                raise no_topic(self._topic, "the log")
            for scorer in new:
                scorer.begin(topic.end[scorer.partition], time.monotonic())

    def _open(self, partition: int, committed: int | None) -> PartitionScorer:
        path = store_path(self._options.folder, self._options.group, self._topic, partition)
        if not path.exists() and committed is not None:
            raise StateError(
                f"{path} is not there, but group {self._options.group} has read {self._topic}-{partition} up to "
                f"{committed}: bring the store back, or start again without state by --fresh-state"
            )
        fresh = self._options.fresh_state and partition not in self._begun
        store = self._open_store(path, self._identity, fresh, self._say_waiting)
        self._begun.add(partition)
        return PartitionScorer(self._shared, partition, store, self._rollout)

    def _say_waiting(self, path: Path) -> None:
        self._log_line.warning("waiting for another process that is inside a transaction", store=str(path))

    def revoked(self, partitions: Sequence[int]) -> None:
        """Give partitions up: a last checkpoint, what can be sent is sent, stores are closed."""
        for number in partitions:
            self._lost.pop(number, None)
            scorer = self._partitions.pop(number, None)
            if scorer is None:
                continue
            if self._broken:  # in the middle of something: what the last checkpoint says is the truth
                scorer.store.close()
                continue
            failpoint("drain.before_checkpoint")
            try:
                scorer.checkpoint(time.monotonic())
                self._delivery.send([scorer], time.monotonic())
                self._tell_group(scorer)
            except LostPartition as error:
                self._log_line.error("partition lost", partition=number, reason=str(error))
            finally:
                scorer.store.close()
        self._paused -= set(partitions)
        self._log_line.info("partitions given up", partitions=list(partitions))
