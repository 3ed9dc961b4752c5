"""A member of a Kafka consumer group: partitions that come and go, offsets that the owner keeps."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from anomaly.stream.kafka_client import (
    ConsumerRebalanceListener,
    KafkaConsumer,
    KafkaError,
    Limits,
    MemberState,
    OffsetAndMetadata,
    OffsetOutOfRangeError,
    RetriableError,
    TopicPartition,
    block,
    peer_error,
    retried,
    spans,
)
from anomaly.stream.offsets import First, gone, starting_offset
from anomaly.stream.ports import Block, Owner

_logger = logging.getLogger(__name__)
_JOIN_S = 0.3
_OWNER_S = 60.0
"""A caller that is gone without `close` does not keep its process alive for longer."""


class KafkaSource(ConsumerRebalanceListener):  # type: ignore[misc]
    """A member of a group; see `ports.Source`. For one thread at a time.

    kafka-python calls its rebalance listener in a thread of its own, while `poll` waits. The wait is therefore done
    by a helper thread, and the caller's thread, in the meantime, is there to run the owner.
    """

    def __init__(
        self, connect: Callable[[], KafkaConsumer], topic: str, owner: Owner, first: First, limits: Limits
    ) -> None:
        self._connect = connect
        self._topic = topic
        self._owner = owner
        self._first = first
        self._limits = limits
        self._owned: set[int] = set()
        self._fresh: set[int] = set()
        self._paused: set[int] = set()
        self._inbox: SimpleQueue[Future[Any] | _Revoked] = SimpleQueue()
        self._polling: Future[Any] | None = None
        self._pending: dict[int, int] = {}
        self._pending_until = 0.0
        self._watch = _Watch()
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="kafka-poll")
        self._consumer = self._joined()

    def poll(self, max_messages: int, timeout_s: float) -> list[Block]:
        """What has arrived; partitions that were given or taken meanwhile are told to the owner."""
        if self._polling is None:
            self._look_for_stalls()
            if self._pending:
                self._send_pending()
            self._start_poll(max_messages, timeout_s)
        try:
            records = self._accepted(self._finish_poll(timeout_s), max_messages)
        except Empty:
            return []
        if self._fresh:
            self._take_over()
        return [block(partition.partition, messages) for partition, messages in records.items()]

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group without waiting; what fails is sent again for a while, then forgotten."""
        self._pending.update(offsets)
        self._pending_until = time.monotonic() + self._limits.retry_s
        self._send_pending()

    def committed(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """What the group was told of `partitions`."""
        found = {}
        for partition in self._those(partitions):
            offset = retried(partial(self._consumer.committed, partition), self._limits.retry_s)
            if offset is not None:
                found[partition.partition] = offset
        return found

    def lag(self) -> Mapping[int, int]:
        """Messages each owned partition still has to read, as of its last fetch."""
        lags = {}
        for number in sorted(self._owned):
            partition = TopicPartition(self._topic, number)
            end = max(self._watch.ends.get(number, 0), self._consumer.highwater(partition) or 0)
            lags[number] = max(0, end - self._consumer.position(partition))
        return lags

    def pause(self, partitions: Sequence[int]) -> None:
        """Fetch nothing from `partitions` until `resume`; they stay owned."""
        self._paused.update(partitions)
        self._consumer.pause(*self._those(self._owned.intersection(partitions)))

    def resume(self, partitions: Sequence[int]) -> None:
        """Fetch from `partitions` again."""
        self._paused.difference_update(partitions)
        self._consumer.resume(*self._those(self._owned.intersection(partitions)))

    def close(self) -> None:
        """Give all partitions up, say how far they are, and leave the group."""
        try:
            if self._polling is not None:  # the caller was interrupted in the middle of a poll
                self._finish_poll(None)
        finally:
            try:
                self._leave()
            finally:
                self._helper.shutdown()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called by kafka-python, in its own thread: hold the partitions until the owner said where they go on."""
        for partition in assigned:
            self._consumer.pause(partition)
            self._consumer.seek(partition, 0)
            self._fresh.add(partition.partition)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Called by kafka-python, in its own thread: wait until the owner, in the caller's thread, has let go."""
        numbers = {partition.partition for partition in revoked}
        self._fresh -= numbers
        if owned := sorted(numbers & self._owned):
            message = _Revoked(owned, threading.Event())
            self._inbox.put(message)
            message.done.wait(_OWNER_S)

    def _start_poll(self, max_messages: int, timeout_s: float) -> None:
        """Let the helper poll.

        A member that joins is polled for `_JOIN_S` at least, also after the caller has its (empty) answer: what
        comes between two polls in answer to its joining is forgotten by kafka-python, which then joins again and
        so starts the next rebalance, without an end if polls are short.
        """
        wait_s = timeout_s if self._is_stable() else max(timeout_s, _JOIN_S)
        self._polling = self._helper.submit(self._consumer.poll, int(wait_s * 1_000), max_messages)
        self._polling.add_done_callback(self._inbox.put)

    def _is_stable(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    def _finish_poll(self, timeout_s: float | None) -> dict[TopicPartition, list[Any]]:
        """What the helper's poll gave; runs the owner for what is revoked in the meantime.

        Raises Empty if a poll of a member that joins takes longer than `timeout_s` (None: wait for it).
        """
        limit_s = None if self._is_stable() else timeout_s
        while isinstance(message := self._inbox.get(timeout=limit_s), _Revoked):
            try:
                self._give_up(message.partitions)
            finally:
                message.done.set()
        self._polling = None
        return self._records_of(message)

    def _accepted(self, records: dict[TopicPartition, list[Any]], max_messages: int) -> dict[TopicPartition, list[Any]]:
        """`records` without those that a poll, begun before, brought of a paused partition or beyond the limit.

        Nor those of a partition that is just being taken over: the owner has yet to say where it goes on.
        """
        accepted = {}
        left = max_messages
        for partition, messages in records.items():
            if partition.partition not in self._owned:
                continue
            keep = 0 if partition.partition in self._paused else min(left, len(messages))
            if keep < len(messages):
                self._consumer.seek(partition, messages[keep].offset)
            if keep:
                accepted[partition] = messages[:keep]
                left -= keep
        return accepted

    def _records_of(self, poll: Future[Any]) -> dict[TopicPartition, list[Any]]:
        try:
            records: dict[TopicPartition, list[Any]] = poll.result()
        except OffsetOutOfRangeError as error:
            partition, offset = next(iter(error.args[0].items()))
            span = spans(self._consumer, self._topic, [partition.partition], self._limits.retry_s)
            raise gone(self._topic, partition.partition, offset, span[partition.partition]) from error
        except RetriableError as error:
            _logger.warning("%s: %s; trying again", self._topic, error)
            return {}
        except KafkaError as error:
            raise peer_error(f"reading {self._topic}", error) from error
        return records

    def _take_over(self) -> None:
        fresh = sorted(self._fresh)
        self._fresh.clear()
        stored = self._owner.assigned(fresh)
        self._owned.update(fresh)
        for number, span in spans(self._consumer, self._topic, fresh, self._limits.retry_s).items():
            offset = starting_offset(self._topic, number, stored.get(number), self._first, span)
            self._consumer.seek(TopicPartition(self._topic, number), offset)
            self._watch.ends[number] = span.end
        self._consumer.resume(*self._those(set(fresh) - self._paused))

    def _give_up(self, partitions: Sequence[int]) -> None:
        try:
            self._owner.revoked(partitions)
        finally:
            self._owned.difference_update(partitions)
            self._paused.difference_update(partitions)
            for number in partitions:
                self._pending.pop(number, None)

    def _leave(self) -> None:
        self._fresh.clear()
        try:
            if owned := sorted(self._owned):
                self._owner.revoked(owned)
                with suppress(KafkaError):
                    self._consumer.commit(self._offsets(), timeout_ms=2_000)
        finally:
            self._owned.clear()
            self._pending.clear()
            with suppress(KafkaError):
                self._consumer.close(timeout_ms=5_000)

    def _joined(self) -> KafkaConsumer:
        consumer = self._connect()
        consumer.subscribe([self._topic], listener=self)
        # a member that joins before it knows the topic is given nothing until metadata are renewed, 5 minutes later
        retried(lambda: consumer.partitions_for_topic(self._topic), self._limits.retry_s)
        return consumer

    def _offsets(self) -> dict[TopicPartition, OffsetAndMetadata]:
        pending, self._pending = self._pending, {}
        return {TopicPartition(self._topic, number): OffsetAndMetadata(at) for number, at in pending.items()}

    def _send_pending(self) -> None:
        offsets = self._offsets()
        try:
            self._consumer.commit_async(offsets, callback=self._committed)
        except KafkaError as error:
            self._committed(offsets, error)

    def _committed(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], response: object) -> None:
        if not isinstance(response, Exception):
            return
        if time.monotonic() > self._pending_until:
            _logger.warning("%s: the group was not told how far it is: %s", self._topic, response)
            return
        for partition, at in offsets.items():
            if partition.partition in self._owned:
                self._pending.setdefault(partition.partition, at.offset)

    def _look_for_stalls(self) -> None:
        """A partition that has messages and did not move for `stall_s` is sought again, then joined anew."""
        now = time.monotonic()
        if now < self._watch.due:
            return
        self._watch.due = now + self._limits.stall_s
        moving = self._those(self._owned - self._paused)
        positions = {partition.partition: self._consumer.position(partition) for partition in moving}
        still = [number for number, position in positions.items() if self._watch.seen.get(number) == position]
        held = spans(self._consumer, self._topic, still, self._limits.retry_s) if still else {}
        stalled = {number for number, span in held.items() if span.end > positions[number]}
        again, self._watch.sought = bool(stalled & self._watch.sought), stalled
        self._watch.seen = positions
        for number in stalled:
            _logger.warning("%s-%d stands still at %d, though there is more", self._topic, number, positions[number])
            self._consumer.seek(TopicPartition(self._topic, number), positions[number])
        if again:
            _logger.warning("%s: joining the group anew", self._topic)
            self._leave()
            self._watch = _Watch(due=self._watch.due)
            self._consumer = self._joined()

    def _those(self, numbers: Collection[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number) for number in sorted(numbers)]


class _Revoked(NamedTuple):
    """Partitions that the group takes away; it goes on when `done` is set."""

    partitions: list[int]
    done: threading.Event


class _Watch:
    """What the stall watchdog knows: when it looks next, and what it saw and did when it looked last."""

    def __init__(self, due: float = 0.0) -> None:
        self.due = due
        self.seen: dict[int, int] = {}
        self.sought: set[int] = set()
        self.ends: dict[int, int] = {}
