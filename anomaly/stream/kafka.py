"""Apache Kafka by kafka-python; the only module that knows it.

Messages are handed on as they are: no deserializers, and record time stamps are left to the producer's clock (a
broker deletes by them, and refuses those that lie ahead). Group members use the cooperative sticky assignor, so that
a rebalance stops only the partitions that move.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    RetriableError,
    TopicAlreadyExistsError,
)
from kafka.structs import OffsetAndMetadata

from anomaly.errors import DataError, PeerError
from anomaly.stream.client_log import capture, likely_cause
from anomaly.stream.offsets import First, Span, gone, no_topic, starting_offset
from anomaly.stream.partitions import partition_of
from anomaly.stream.ports import Block, Owner, Record, Topic

T = TypeVar("T")
_logger = logging.getLogger(__name__)

_JAVA_NAMES = {
    "client.id": "client_id",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "ssl.truststore.location": "ssl_cafile",
}
_SEND_TOGETHER = 10_000
_MAX_REQUEST_BYTES = 4 << 20
_DEAD_LETTER_BYTES = 2 << 20
"""A dead letter holds a message of at most 1 MiB in base64, so it needs more room than the broker gives others."""


class Limits(NamedTuple):
    """Seconds to wait for a first answer, repeated calls, acknowledgements, and a partition that stands still."""

    bootstrap_s: float = 10.0
    retry_s: float = 15.0
    send_s: float = 120.0
    stall_s: float = 30.0


class KafkaLog:
    """The topics of the cluster at `bootstrap_servers`; `client` has what `read_client_properties` answers.

    Raises PeerError, with the cause, if no broker answers within `limits.bootstrap_s`.
    """

    def __init__(
        self, bootstrap_servers: str, client: Mapping[str, str] | None = None, limits: Limits = Limits()
    ) -> None:
        self._client = dict(client or {})
        self._limits = limits
        self._settings: dict[str, Any] = {
            "bootstrap_servers": [server.strip() for server in bootstrap_servers.split(",")],
            "bootstrap_timeout_ms": int(limits.bootstrap_s * 1_000),
        }
        self._settings |= {ours: self._client[java] for java, ours in _JAVA_NAMES.items() if java in self._client}
        self._observer = self._consumer()

    def create_topics(
        self, partitions: Mapping[str, int], retention_ms: int, compacted: Collection[str] = (), replication: int = 1
    ) -> list[str]:
        """Create the missing ones of the topics."""
        admin = _connect(KafkaAdminClient, self._settings)
        try:
            there = set(_retried(admin.list_topics, self._limits.retry_s))
            made = []
            for name in (name for name in partitions if name not in there):
                layout = {
                    "num_partitions": partitions[name],
                    "replication_factor": replication,
                    "configs": _topic_configs(name, retention_ms, name in compacted),
                }
                with suppress(TopicAlreadyExistsError), _errors(f"creating {name}"):
                    admin.create_topics({name: layout}, wait_for_metadata=True)
                    made.append(name)
            return made
        finally:
            admin.close()

    def topic(self, name: str) -> Topic | None:
        """The topic as it is now, None if there is none."""
        numbers = _retried(lambda: self._observer.partitions_for_topic(name), self._limits.retry_s)
        if not numbers:
            return None
        spans = _spans(self._observer, name, sorted(numbers), self._limits.retry_s)
        return Topic(name, len(spans), [s.start for s in spans.values()], [s.end for s in spans.values()])

    def source(self, topic: str, group: str, owner: Owner, first: First) -> KafkaSource:
        """Join `group`; the partitions come with the first polls."""
        self.required(topic)
        membership: dict[str, Any] = {"group_id": group, "partition_assignment_strategy": [CooperativeStickyAssignor()]}
        if "group.instance.id" in self._client:
            membership["group_instance_id"] = self._client["group.instance.id"]
        if "session.timeout.ms" in self._client:
            session_ms = int(self._client["session.timeout.ms"])
            membership |= {"session_timeout_ms": session_ms, "heartbeat_interval_ms": min(3_000, session_ms // 3)}
        return KafkaSource(lambda: self._consumer(**membership), topic, owner, first, self._limits)

    def reader(self, topic: str, positions: Mapping[int, int]) -> KafkaReader:
        """The whole of `topic` from `positions` on."""
        self.required(topic)
        return KafkaReader(self._consumer(), topic, positions, self._limits)

    def sink(self) -> KafkaSink:
        """An idempotent producer."""
        settings = self._settings | {
            "compression_type": "lz4",
            "linger_ms": 20,
            "batch_size": 256 << 10,
            "max_request_size": _MAX_REQUEST_BYTES,
            "max_block_ms": int(self._limits.retry_s * 1_000),
            "delivery_timeout_ms": int(self._limits.send_s * 1_000),
            "request_timeout_ms": min(30_000, int(self._limits.send_s * 500)),
            "allow_auto_create_topics": False,
        }
        return KafkaSink(self, _connect(KafkaProducer, settings), self._limits)

    def close(self) -> None:
        """Let go of the cluster."""
        self._observer.close()

    def required(self, topic: str) -> Topic:
        """The topic as it is now; PeerError if there is none."""
        found = self.topic(topic)
        if found is None:
            raise no_topic(topic, f"the cluster at {','.join(self._settings['bootstrap_servers'])}")
        return found

    def _consumer(self, **settings: Any) -> KafkaConsumer:
        fixed = {
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "allow_auto_create_topics": False,
            "isolation_level": "read_committed",
        }
        return _connect(KafkaConsumer, self._settings | fixed | settings)


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
        self._look_for_stalls()
        if self._pending:
            self._send_pending()
        self._polling = self._helper.submit(self._consumer.poll, int(timeout_s * 1_000), max_messages)
        self._polling.add_done_callback(self._inbox.put)
        records = self._finish_poll()
        if self._fresh:
            self._take_over()
        return [_block(partition.partition, messages) for partition, messages in records.items()]

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group without waiting; what fails is sent again for a while, then forgotten."""
        self._pending.update(offsets)
        self._pending_until = time.monotonic() + self._limits.retry_s
        self._send_pending()

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
                self._finish_poll()
        finally:
            try:
                self._leave()
            finally:
                self._helper.shutdown()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called by kafka-python, in its own thread: hold the partitions until the owner said where they go on."""
        for partition in assigned:
            self._consumer.seek(partition, 0)
            self._consumer.pause(partition)
            self._fresh.add(partition.partition)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Called by kafka-python, in its own thread: wait until the owner, in the caller's thread, has let go."""
        numbers = {partition.partition for partition in revoked}
        self._fresh -= numbers
        if owned := sorted(numbers & self._owned):
            message = _Revoked(owned, threading.Event())
            self._inbox.put(message)
            message.done.wait()

    def _finish_poll(self) -> dict[TopicPartition, list[Any]]:
        """Wait for the helper, and run the owner for what is revoked in the meantime."""
        while isinstance(message := self._inbox.get(), _Revoked):
            try:
                self._give_up(message.partitions)
            finally:
                message.done.set()
        self._polling = None
        return self._records_of(message)

    def _records_of(self, poll: Future[Any]) -> dict[TopicPartition, list[Any]]:
        try:
            records: dict[TopicPartition, list[Any]] = poll.result()
        except OffsetOutOfRangeError as error:
            partition, offset = next(iter(error.args[0].items()))
            span = _spans(self._consumer, self._topic, [partition.partition], self._limits.retry_s)
            raise gone(self._topic, partition.partition, offset, span[partition.partition]) from error
        except RetriableError as error:
            _logger.warning("%s: %s; trying again", self._topic, error)
            return {}
        except KafkaError as error:
            raise _peer_error(f"reading {self._topic}", error) from error
        return records

    def _take_over(self) -> None:
        fresh = sorted(self._fresh)
        self._fresh.clear()
        stored = self._owner.assigned(fresh)
        self._owned.update(fresh)
        for number, span in _spans(self._consumer, self._topic, fresh, self._limits.retry_s).items():
            offset = starting_offset(self._topic, number, stored.get(number), self._first, span)
            self._consumer.seek(TopicPartition(self._topic, number), offset)
            self._watch.ends[number] = span.end
        self._consumer.resume(*self._those(set(fresh) - self._paused))

    def _give_up(self, partitions: Sequence[int]) -> None:
        try:
            self._owner.revoked(partitions)
        finally:
            self._owned.difference_update(partitions)
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
        spans = _spans(self._consumer, self._topic, still, self._limits.retry_s) if still else {}
        stalled = {number for number, span in spans.items() if span.end > positions[number]}
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


class KafkaReader:
    """A whole topic outside any group; see `ports.Reader`. A deleted beginning is skipped."""

    def __init__(self, consumer: KafkaConsumer, topic: str, positions: Mapping[int, int], limits: Limits) -> None:
        self._consumer = consumer
        self._topic = topic
        self._limits = limits
        numbers = sorted(_retried(lambda: consumer.partitions_for_topic(topic), limits.retry_s))
        self._partitions = [TopicPartition(topic, number) for number in numbers]
        consumer.assign(self._partitions)
        for number, span in _spans(consumer, topic, numbers, limits.retry_s).items():
            if positions.get(number, 0) > span.end:
                raise gone(topic, number, positions[number], span)
            consumer.seek(TopicPartition(topic, number), max(positions.get(number, 0), span.start))

    def read_to_end(self) -> list[Block]:
        """Everything that was there when this was called and is new since the last call."""
        ends = _retried(lambda: self._consumer.end_offsets(self._partitions), self._limits.retry_s)
        found: dict[int, list[Any]] = {}
        until = time.monotonic() + self._limits.retry_s
        while any(self._consumer.position(partition) < end for partition, end in ends.items()):
            with _errors(f"reading {self._topic}"):
                records = self._consumer.poll(200, 10_000)
            for partition, messages in records.items():
                found.setdefault(partition.partition, []).extend(messages)
            if records:
                until = time.monotonic() + self._limits.retry_s
            elif time.monotonic() > until:
                raise PeerError(f"{self._topic}: nothing came for {self._limits.retry_s:.0f} s, though there is more")
        return [_block(number, messages) for number, messages in sorted(found.items())]

    @property
    def positions(self) -> Mapping[int, int]:
        """The offset of the next message of each partition."""
        return {partition.partition: self._consumer.position(partition) for partition in self._partitions}

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


class KafkaSink:
    """An idempotent producer that waits for the acknowledgement of all that it sent; see `ports.Sink`."""

    def __init__(self, log: KafkaLog, producer: KafkaProducer, limits: Limits) -> None:
        self._log = log
        self._producer = producer
        self._limits = limits
        self._partitions: dict[str, int] = {}
        self._turn = 0

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Write `records`; a broker that is away is waited for up to `send_s`, then PeerError. Nothing is dropped."""
        if topic not in self._partitions:
            self._partitions[topic] = self._log.required(topic).partitions
        for start in range(0, len(records), _SEND_TOGETHER):
            self._send(topic, records[start : start + _SEND_TOGETHER])

    def close(self) -> None:
        """Let go of the connection."""
        self._producer.close(timeout=5.0)

    def _send(self, topic: str, records: Sequence[Record]) -> None:
        count = self._partitions[topic]
        self._turn = (self._turn + 1) % count
        with _errors(f"writing to {topic}"):
            sent = []
            for key, value, number in records:
                if number is None:
                    number = self._turn if key is None else partition_of(key, count)
                sent.append(self._producer.send(topic, value, key, partition=number))
            self._producer.flush(timeout=self._limits.send_s + 5.0)
            for future in sent:
                if future.failed():
                    raise future.exception


def _block(partition: int, messages: Sequence[Any]) -> Block:
    offsets = np.fromiter((message.offset for message in messages), dtype=np.int64, count=len(messages))
    return Block(partition, offsets, [message.value or b"" for message in messages])


def _spans(consumer: KafkaConsumer, topic: str, numbers: Sequence[int], retry_s: float) -> dict[int, Span]:
    partitions = [TopicPartition(topic, number) for number in numbers]
    starts = _retried(lambda: consumer.beginning_offsets(partitions), retry_s)
    ends = _retried(lambda: consumer.end_offsets(partitions), retry_s)
    return {partition.partition: Span(starts[partition], ends[partition]) for partition in partitions}


def _topic_configs(name: str, retention_ms: int, compacted: bool) -> dict[str, str]:
    configs = {"cleanup.policy": "compact"} if compacted else {"retention.ms": str(retention_ms)}
    if name.endswith("dead-letters"):
        configs["max.message.bytes"] = str(_DEAD_LETTER_BYTES)
    return configs


def _retried(call: Callable[[], T], retry_s: float) -> T:
    """The answer of `call`; a broker that is away for a moment is asked again for up to `retry_s`."""
    until = time.monotonic() + retry_s
    pause_s = 0.1
    while True:
        try:
            return call()
        except RetriableError as error:
            if time.monotonic() + pause_s > until:
                raise _peer_error(f"asking for {retry_s:.0f} s", error) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 2.0)
        except KafkaError as error:
            raise _peer_error("asking", error) from error


def _connect(client: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """A client that has met a broker; PeerError has the cause, which kafka-python only writes to its log."""
    with capture("kafka") as lines:
        try:
            return client(**settings)
        except KafkaTimeoutError as error:
            servers = ",".join(settings["bootstrap_servers"])
            raise PeerError(
                f"no Kafka broker could be used at {servers} within "
                f"{settings['bootstrap_timeout_ms'] / 1_000:g} s: {likely_cause(lines)}"
            ) from error
        except KafkaError as error:
            raise _peer_error("connecting", error) from error


@contextmanager
def _errors(doing: str) -> Iterator[None]:
    """kafka-python's errors as ours."""
    try:
        yield
    except MessageSizeTooLargeError as error:
        raise DataError(f"{doing}: {error}; the topic's `max.message.bytes` sets the limit") from error
    except KafkaError as error:
        raise _peer_error(doing, error) from error


def _peer_error(doing: str, error: KafkaError) -> PeerError:
    return PeerError(f"Kafka, {doing}: {error}")
