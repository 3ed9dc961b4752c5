"""A member of a Kafka consumer group by librdkafka: partitions that come and go, offsets that the owner keeps."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from anomaly.errors import PeerError
from anomaly.stream.offsets import First, gone, starting_offset
from anomaly.stream.ports import Block, Owner
from anomaly.stream.rdkafka_client import (
    CALL_S,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Offsets,
    TopicPartition,
    blocks,
    error_of,
    errors,
    is_passing,
    peer_error,
    retried,
)

_logger = logging.getLogger(__name__)


class RdKafkaSource:
    """A member of a group; see `ports.Source`. For one thread at a time.

    librdkafka calls what `subscribe` was given from inside `consume`, in the thread of its caller.
    """

    def __init__(self, settings: Mapping[str, Any], topic: str, owner: Owner, first: First, offsets: Offsets) -> None:
        self._topic = topic
        self._owner = owner
        self._first = first
        self._offsets = offsets
        self._positions: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._moved: set[int] = set()
        self._pending: dict[int, int] = {}
        self._pending_until = 0.0
        self._refusal: BaseException | None = None
        self._closed = False
        self._consumer = Consumer({**settings, "on_commit": self._on_commit})
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def poll(self, max_messages: int, timeout_s: float) -> list[Block]:
        """What has arrived; partitions that were given or taken meanwhile are told to the owner."""
        if self._refusal is not None:
            raise self._refusal
        if self._pending:
            self._send_pending()
        self._moved.clear()
        try:
            with errors(f"reading {self._topic}"):
                messages = self._arrived(max_messages, timeout_s)
        except PeerError:
            self._rewind(self._positions)
            raise
        if self._moved:
            messages = self._without_moved(messages)
        found = blocks(messages)
        for block in found:
            self._positions[block.partition] = int(block.offsets[-1]) + 1
        return found

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group without waiting; what fails is sent again for a while, then forgotten."""
        self._pending.update(offsets)
        self._pending_until = time.monotonic() + self._offsets.retry_s
        self._send_pending()

    def committed(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """What the group was told of `partitions`."""
        asked = self._those(partitions)
        found = retried(lambda: self._consumer.committed(asked, timeout=CALL_S), self._offsets.retry_s)
        return {partition.partition: partition.offset for partition in found if partition.offset >= 0}

    def lag(self) -> Mapping[int, int]:
        """Messages each owned partition still has to read, as of its last fetch."""
        lags = {}
        for number, position in sorted(self._positions.items()):
            end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), cached=True)[1]
            lags[number] = max(0, end - position, self._ends[number] - position)
        return lags

    def pause(self, partitions: Sequence[int]) -> None:
        """Fetch nothing from `partitions` until `resume`; they stay owned."""
        self._consumer.pause(self._those(self._positions.keys() & set(partitions)))

    def resume(self, partitions: Sequence[int]) -> None:
        """Fetch from `partitions` again."""
        self._consumer.resume(self._those(self._positions.keys() & set(partitions)))

    def close(self) -> None:
        """Give all partitions up, say how far they are, and leave the group."""
        if self._closed:
            return
        self._closed = True
        try:
            self._give_up(self._positions.keys())
            self._send_pending()
        finally:
            self._positions.clear()
            with suppress(KafkaException):
                self._consumer.close()

    def _arrived(self, max_messages: int, timeout_s: float) -> list[Message]:
        """What is here, else the first that comes in time, with what came at once."""
        messages = self._consumed(max_messages, 0)
        if not messages and timeout_s > 0:
            messages = self._consumed(1, timeout_s)
        if 0 < len(messages) < max_messages:
            messages += self._consumed(max_messages - len(messages), 0)
        return messages

    def _consumed(self, max_messages: int, timeout_s: float) -> list[Message]:
        messages = self._consumer.consume(max_messages, timeout_s)
        return self._without_errors(messages) if any(map(Message.error, messages)) else messages

    def _without_errors(self, messages: Sequence[Message]) -> list[Message]:
        """The messages that are none; raises PeerError for an error that does not pass by itself."""
        kept = []
        for message in messages:
            error, number = message.error(), message.partition()
            if error is None:
                kept.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._at_end(number, message.offset())
            elif error.code() == KafkaError._AUTO_OFFSET_RESET and number in self._positions:
                self._look_again(number)
            elif is_passing(error):
                _logger.warning("%s: %s; trying again", self._topic, error.str())
            else:
                raise peer_error(f"reading {self._topic}", error)
        return kept

    def _look_again(self, number: int) -> None:
        """The broker refused a partition's offset: PeerError if it is not there, else it is asked for once more."""
        span, position = self._offsets.spans(self._topic, [number])[number], self._positions[number]
        if not span.start <= position <= span.end:
            raise gone(self._topic, number, position, span)
        _logger.warning("%s-%d: offset %d was refused, though it is there; trying again", self._topic, number, position)
        self._moved.add(number)

    def _at_end(self, number: int | None, offset: int | None) -> None:
        """A partition was read to `offset`; the last offsets before it may be markers of transactions."""
        if number in self._positions and offset is not None:
            self._positions[number] = max(self._positions[number], offset)

    def _without_moved(self, messages: Sequence[Message]) -> list[Message]:
        """The messages of partitions that nothing happened to; all of the others that are ours come again."""
        self._rewind(self._moved & self._positions.keys())
        return [message for message in messages if message.partition() not in self._moved]

    def _rewind(self, numbers: Collection[int]) -> None:
        """What was taken of these partitions and not handed on comes again."""
        for number in numbers:
            with suppress(KafkaException):
                self._consumer.seek(TopicPartition(self._topic, number, self._positions[number]))

    def _on_assign(self, consumer: Consumer, assigned: Sequence[TopicPartition]) -> None:
        """Take partitions over; a source that could not has no start for them, and stays broken."""
        numbers = sorted(partition.partition for partition in assigned)
        try:
            starts = self._starts(numbers) if numbers else {}
        except BaseException as error:
            self._refusal = error
            raise
        consumer.incremental_assign([TopicPartition(self._topic, number, at) for number, at in starts.items()])

    def _starts(self, numbers: Sequence[int]) -> Mapping[int, int]:
        """Where the owner goes on with each of the partitions."""
        stored = self._owner.assigned(numbers)
        self._positions.update(dict.fromkeys(numbers, 0))
        for number, span in self._offsets.spans(self._topic, numbers).items():
            self._positions[number] = starting_offset(self._topic, number, stored.get(number), self._first, span)
            self._ends[number] = span.end
        return {number: self._positions[number] for number in numbers}

    def _on_revoke(self, _: Consumer, revoked: Sequence[TopicPartition]) -> None:
        """Revoked or lost; afterwards librdkafka takes them off by itself."""
        self._give_up({partition.partition for partition in revoked} & self._positions.keys())

    def _give_up(self, partitions: Collection[int]) -> None:
        owned = sorted(partitions)
        self._moved.update(owned)
        try:
            if owned:
                self._owner.revoked(owned)
        finally:
            for number in owned:
                del self._positions[number]

    def _send_pending(self) -> None:
        pending, self._pending = self._pending, {}
        if not pending:
            return
        offsets = [TopicPartition(self._topic, number, at) for number, at in pending.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._on_commit(error_of(error), offsets)

    def _on_commit(self, error: KafkaError | None, offsets: Sequence[TopicPartition]) -> None:
        failed = [partition for partition in offsets if error or partition.error]
        if failed and time.monotonic() > self._pending_until:
            _logger.warning("%s: the group was not told how far it is: %s", self._topic, error or failed[0].error)
            return
        for partition in failed:
            if partition.partition in self._positions:
                self._pending.setdefault(partition.partition, partition.offset)

    def _those(self, numbers: Collection[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number) for number in sorted(numbers)]
