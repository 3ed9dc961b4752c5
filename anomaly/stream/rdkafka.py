"""Apache Kafka by librdkafka, with the promises of `kafka.py` at a fraction of its cost; the extra `fast` brings it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from anomaly.errors import PeerError
from anomaly.stream.kafka_settings import (
    BATCH_BYTES,
    HEARTBEAT_MS,
    LINGER_MS,
    MAX_REQUEST_BYTES,
    RETENTION_CONFIGS,
    SEND_TOGETHER,
    Limits,
    kept_ms,
    topic_configs,
)
from anomaly.stream.offsets import First, gone, no_topic
from anomaly.stream.ports import Block, Owner, Record, Topic
from anomaly.stream.rdkafka_client import (
    CALL_S,
    AdminClient,
    Causes,
    ConfigResource,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    NewTopic,
    Offsets,
    Producer,
    TopicPartition,
    blocks,
    error_of,
    errors,
    is_passing,
    met,
    peer_error,
    retried,
    settings_of,
)
from anomaly.stream.rdkafka_source import RdKafkaSource

_GROUPLESS = "anomaly-readers"
"""librdkafka wants a group's name also of consumers that join none."""
_HELD_KIB = 32 << 10
_ANY_PARTITION = -1


class RdKafkaLog:
    """The topics of the cluster at `bootstrap_servers`; `client` has what `read_client_properties` answers.

    Raises PeerError, with the cause, if no broker answers within `limits.bootstrap_s`.
    """

    def __init__(
        self, bootstrap_servers: str, client: Mapping[str, str] | None = None, limits: Limits = Limits()
    ) -> None:
        self._client = dict(client or {})
        self._limits = limits
        self._settings = settings_of(bootstrap_servers, self._client)
        causes = Causes()
        self._observer = met(self._consumer(causes), self._servers, causes, limits)
        self._offsets = Offsets(self._observer, limits.retry_s)

    @property
    def _servers(self) -> str:
        return str(self._settings["bootstrap.servers"])

    def create_topics(
        self, partitions: Mapping[str, int], retention_ms: int, compacted: Collection[str] = (), replication: int = 1
    ) -> list[str]:
        """Create the missing ones of the topics."""
        settings: dict[str, Any] = self._settings | {"error_cb": Causes()}
        admin = AdminClient(settings)
        made = []
        for name in (name for name in partitions if self.topic(name) is None):
            layout = NewTopic(
                name,
                num_partitions=partitions[name],
                replication_factor=replication,
                config=topic_configs(name, retention_ms, name in compacted),
            )
            if retried(partial(_created, admin, layout), self._limits.retry_s):
                made.append(name)
        self._wait_for(made)
        return made

    def topic(self, name: str) -> Topic | None:
        """The topic as it is now, None if there is none."""
        found = self._offsets.spans(name, self._numbers(name)).values()
        return Topic(name, len(found), [span.start for span in found], [span.end for span in found]) if found else None

    def retention_ms(self, topic: str) -> int:
        """How long messages of `topic` are kept."""
        self.required(topic)
        settings: dict[str, Any] = self._settings | {"error_cb": Causes()}
        admin, wanted = AdminClient(settings), ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = retried(lambda: admin.describe_configs([wanted])[wanted].result(CALL_S), self._limits.retry_s)
        return kept_ms({name: found[name].value for name in RETENTION_CONFIGS})

    def source(self, topic: str, group: str, owner: Owner, first: First) -> RdKafkaSource:
        """Join `group`; the partitions come with the first polls."""
        self.required(topic)
        membership: dict[str, Any] = {
            "group.id": group,
            "partition.assignment.strategy": "cooperative-sticky",
            "heartbeat.interval.ms": HEARTBEAT_MS,
        }
        for name in ("group.instance.id", "session.timeout.ms"):
            if name in self._client:
                membership[name] = self._client[name]
        return RdKafkaSource(self._consumer_settings(Causes()) | membership, topic, owner, first, self._offsets)

    def reader(self, topic: str, positions: Mapping[int, int]) -> RdKafkaReader:
        """The whole of `topic` from `positions` on."""
        numbers = range(self.required(topic).partitions)
        at = {number: positions.get(number, 0) for number in numbers}
        return RdKafkaReader(self._consumer_settings(Causes()), topic, at, self._offsets)

    def sink(self) -> RdKafkaSink:
        """An idempotent producer."""
        settings = self._settings | {
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "message.max.bytes": MAX_REQUEST_BYTES,
            "message.timeout.ms": self._limits.send_ms,
            "request.timeout.ms": self._limits.request_ms,
            "queue.buffering.max.kbytes": _HELD_KIB,
            "delivery.report.only.error": True,
            "error_cb": Causes(),
        }
        return RdKafkaSink(self, settings, self._limits)

    def close(self) -> None:
        """Let go of the cluster."""
        self._observer.close()

    def required(self, topic: str) -> Topic:
        """The topic as it is now; PeerError if there is none."""
        found = self.topic(topic)
        if found is None:
            raise no_topic(topic, f"the cluster at {self._servers}")
        return found

    def _wait_for(self, topics: Sequence[str]) -> None:
        """Brokers hear of a new topic a moment after it was made."""
        until = time.monotonic() + self._limits.retry_s
        for topic in topics:
            while self.topic(topic) is None and time.monotonic() < until:
                time.sleep(0.02)

    def _numbers(self, topic: str) -> list[int]:
        """The topic's partitions, none if there is no such topic."""

        def ask() -> list[int]:
            found = self._observer.list_topics(topic, timeout=CALL_S).topics[topic]
            if found.error is not None and found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise KafkaException(found.error)
            return sorted(found.partitions)

        return retried(ask, self._limits.retry_s)

    def _consumer(self, causes: Causes) -> Consumer:
        return Consumer(self._consumer_settings(causes))

    def _consumer_settings(self, causes: Causes) -> dict[str, Any]:
        return self._settings | {
            "group.id": self._client.get("group.id", _GROUPLESS),
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": _HELD_KIB,
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 20,
            "error_cb": causes,
        }


class RdKafkaReader:
    """A whole topic outside any group; see `ports.Reader`. A deleted beginning is skipped."""

    def __init__(self, settings: Mapping[str, Any], topic: str, positions: Mapping[int, int], offsets: Offsets) -> None:
        self._topic = topic
        self._offsets = offsets
        self._positions: dict[int, int] = {}
        for number, span in offsets.spans(topic, sorted(positions)).items():
            if positions[number] > span.end:
                raise gone(topic, number, positions[number], span)
            self._positions[number] = max(positions[number], span.start)
        self._found: list[Message] = []
        self._consumer = Consumer(dict(settings))
        self._consumer.assign([TopicPartition(topic, number, at) for number, at in self._positions.items()])

    def read_to_end(self) -> list[Block]:
        """Everything that was there when this was called and is new since the last call that did not fail."""
        ends = self._offsets.ends(self._topic, sorted(self._positions))
        until = time.monotonic() + self._offsets.retry_s
        while any(self._positions[number] < end for number, end in ends.items()):
            with errors(f"reading {self._topic}"):
                messages = self._consumer.consume(10_000, 0) or self._consumer.consume(1, 0.2)
            for message in messages:
                self._take(message)
            if messages:
                until = time.monotonic() + self._offsets.retry_s
            elif time.monotonic() > until:
                raise PeerError(f"{self._topic}: nothing came for {self._offsets.retry_s:.0f} s, though there is more")
        found, self._found = self._found, []
        return blocks(found)

    @property
    def positions(self) -> Mapping[int, int]:
        """The offset of the next message of each partition."""
        return dict(self._positions)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _take(self, message: Message) -> None:
        """Move on behind a message, or behind what the end of a partition says was left out."""
        error, number, offset = message.error(), message.partition(), message.offset()
        if error is None:
            self._found.append(message)
            self._positions[number] = offset + 1  # type: ignore[index,operator]
        elif error.code() == KafkaError._PARTITION_EOF:
            self._positions[number] = max(self._positions[number], offset)  # type: ignore[index,type-var,assignment]
        elif error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED and not is_passing(error):
            raise peer_error(f"reading {self._topic}", error)


class RdKafkaSink:
    """An idempotent producer that waits for the acknowledgement of all that it sent; see `ports.Sink`.

    After a send that failed, the next one starts with a new producer: nothing of the old one is sent late, and no
    error of it is met again.
    """

    def __init__(self, log: RdKafkaLog, settings: Mapping[str, Any], limits: Limits) -> None:
        self._log = log
        self._settings = {**settings, "on_delivery": self._on_delivery}
        self._limits = limits
        self._producer: Producer | None = None
        self._failed: list[KafkaError] = []
        self._partitions: dict[str, int] = {}
        self._turn = 0

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Write `records`; a broker that is away is waited for up to `send_s`, then PeerError. Nothing is dropped."""
        if topic not in self._partitions:
            self._partitions[topic] = self._log.required(topic).partitions
        if self._producer is None:
            self._failed.clear()
            self._producer = self._new_producer(topic)
        try:
            for start in range(0, len(records), SEND_TOGETHER):
                self._send(self._producer, topic, records[start : start + SEND_TOGETHER])
        except BaseException:
            self._drop()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        self._drop()

    def _send(self, producer: Producer, topic: str, records: Sequence[Record]) -> None:
        self._turn = (self._turn + 1) % self._partitions[topic]
        doing = f"writing to {topic}"
        with errors(doing):
            for key, value, number in records:
                if number is None:
                    number = self._turn if key is None else _ANY_PARTITION
                _queued(partial(producer.produce, topic, value, key, number), producer)
            left = producer.flush(self._limits.send_s + 5.0)
        if self._failed:
            raise peer_error(doing, self._failed[0])
        if left:
            raise PeerError(f"Kafka, {doing}: {left} messages are not acknowledged after {self._limits.send_s:.0f} s")

    def _new_producer(self, topic: str) -> Producer:
        """A producer that has met a broker, if one is there: it looks for its id then, else only twice a second."""
        producer = Producer(self._settings)
        with suppress(KafkaException):
            producer.list_topics(topic, timeout=min(CALL_S, self._limits.send_s))
        return producer

    def _drop(self) -> None:
        if self._producer is not None:
            with suppress(KafkaException):
                self._producer.purge()
                self._producer.flush(1.0)
            self._producer = None

    def _on_delivery(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed.append(error)


def _queued(produce: Callable[[], None], producer: Producer) -> None:
    """Hand a record to the producer; while its queue is full, wait until records leave it or are given up."""
    while True:
        try:
            return produce()
        except BufferError:
            producer.poll(0.1)


def _created(admin: AdminClient, layout: NewTopic) -> bool:
    """Whether this call made the topic; somebody else may be faster."""
    try:
        admin.create_topics([layout], operation_timeout=CALL_S, request_timeout=CALL_S)[layout.topic].result()
    except KafkaException as error:
        if error_of(error).code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise
    return True
