"""Apache Kafka: the log, members of a group, readers of whole topics, and producers.

Messages are handed on as they are: no deserializers, and record time stamps are left to the producer's clock (a
broker deletes by them, and refuses those that lie ahead). Group members use the cooperative sticky assignor, so that
a rebalance stops only the partitions that move.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from anomaly.errors import AnomalyError, PeerError
from anomaly.stream.kafka_client import (
    ConfigResource,
    ConfigResourceType,
    CooperativeStickyAssignor,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    TopicAlreadyExistsError,
    TopicPartition,
    abandon,
    block,
    connect,
    errors,
    retried,
    settings_of,
    spans,
)
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
from anomaly.stream.kafka_source import KafkaSource
from anomaly.stream.offsets import First, gone, no_topic
from anomaly.stream.partitions import partition_of
from anomaly.stream.ports import Block, Owner, Record, Topic

_logger = logging.getLogger(__name__)


class KafkaLog:
    """The topics of the cluster at `bootstrap_servers`; `client` has what `read_client_properties` answers.

    Raises PeerError, with the cause, if no broker answers within `limits.bootstrap_s`.
    """

    def __init__(
        self, bootstrap_servers: str, client: Mapping[str, str] | None = None, limits: Limits = Limits()
    ) -> None:
        self._client = dict(client or {})
        self._limits = limits
        self._settings = settings_of(bootstrap_servers, self._client, limits)
        self._observer = self._consumer()

    def create_topics(
        self, partitions: Mapping[str, int], retention_ms: int, compacted: Collection[str] = (), replication: int = 1
    ) -> list[str]:
        """Create the missing ones of the topics."""
        admin = connect(KafkaAdminClient, self._settings)
        try:
            there = set(retried(admin.list_topics, self._limits.retry_s))
            made = []
            for name in (name for name in partitions if name not in there):
                layout = {
                    "num_partitions": partitions[name],
                    "replication_factor": replication,
                    "configs": topic_configs(name, retention_ms, name in compacted),
                }
                if retried(partial(_created, admin, name, layout), self._limits.retry_s):
                    made.append(name)
            return made
        finally:
            admin.close()

    def topic(self, name: str) -> Topic | None:
        """The topic as it is now, None if there is none."""
        numbers = retried(lambda: self._observer.partitions_for_topic(name), self._limits.retry_s)
        if not numbers:
            return None
        found = spans(self._observer, name, sorted(numbers), self._limits.retry_s).values()
        return Topic(name, len(found), [span.start for span in found], [span.end for span in found])

    def retention_ms(self, topic: str) -> int:
        """How long messages of `topic` are kept."""
        self.required(topic)
        wanted = ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(RETENTION_CONFIGS))
        admin = connect(KafkaAdminClient, self._settings)
        try:
            found = retried(lambda: admin.describe_configs([wanted], config_filter="all"), self._limits.retry_s)
        finally:
            admin.close()
        return kept_ms({name: entry["value"] for name, entry in found["topic"][topic].items()})

    def source(self, topic: str, group: str, owner: Owner, first: First) -> KafkaSource:
        """Join `group`; the partitions come with the first polls."""
        self.required(topic)
        membership: dict[str, Any] = {
            "group_id": group,
            "partition_assignment_strategy": [CooperativeStickyAssignor()],
            "heartbeat_interval_ms": HEARTBEAT_MS,
        }
        if "group.instance.id" in self._client:
            membership["group_instance_id"] = self._client["group.instance.id"]
        if "session.timeout.ms" in self._client:
            membership["session_timeout_ms"] = int(self._client["session.timeout.ms"])
        return KafkaSource(lambda: self._consumer(**membership), topic, owner, first, self._limits)

    def reader(self, topic: str, positions: Mapping[int, int]) -> KafkaReader:
        """The whole of `topic` from `positions` on."""
        self.required(topic)
        return KafkaReader(self._consumer(), topic, positions, self._limits)

    def sink(self) -> KafkaSink:
        """An idempotent producer."""
        settings = self._settings | {
            "compression_type": "lz4",
            "linger_ms": LINGER_MS,
            "batch_size": BATCH_BYTES,
            "max_request_size": MAX_REQUEST_BYTES,
            "max_block_ms": int(self._limits.retry_s * 1_000),
            "delivery_timeout_ms": self._limits.send_ms,
            "request_timeout_ms": self._limits.request_ms,
            "allow_auto_create_topics": False,
        }
        return KafkaSink(self, lambda: connect(KafkaProducer, settings), self._limits)

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
        return connect(KafkaConsumer, self._settings | fixed | settings)


class KafkaReader:
    """A whole topic outside any group; see `ports.Reader`. A deleted beginning is skipped."""

    def __init__(self, consumer: KafkaConsumer, topic: str, positions: Mapping[int, int], limits: Limits) -> None:
        self._consumer = consumer
        self._topic = topic
        self._limits = limits
        numbers = sorted(retried(lambda: consumer.partitions_for_topic(topic), limits.retry_s))
        self._partitions = [TopicPartition(topic, number) for number in numbers]
        self._found: dict[int, list[Any]] = {}
        consumer.assign(self._partitions)
        for number, span in spans(consumer, topic, numbers, limits.retry_s).items():
            if positions.get(number, 0) > span.end:
                raise gone(topic, number, positions[number], span)
            consumer.seek(TopicPartition(topic, number), max(positions.get(number, 0), span.start))

    def read_to_end(self) -> list[Block]:
        """Everything that was there when this was called and is new since the last call that did not fail."""
        ends = retried(lambda: self._consumer.end_offsets(self._partitions), self._limits.retry_s)
        until = time.monotonic() + self._limits.retry_s
        while any(self._consumer.position(partition) < end for partition, end in ends.items()):
            with errors(f"reading {self._topic}"):
                records = self._consumer.poll(200, 10_000)
            for partition, messages in records.items():
                self._found.setdefault(partition.partition, []).extend(messages)
            if records:
                until = time.monotonic() + self._limits.retry_s
            elif time.monotonic() > until:
                raise PeerError(f"{self._topic}: nothing came for {self._limits.retry_s:.0f} s, though there is more")
        found, self._found = self._found, {}
        return [block(number, messages) for number, messages in sorted(found.items())]

    @property
    def positions(self) -> Mapping[int, int]:
        """The offset of the next message of each partition."""
        return {partition.partition: self._consumer.position(partition) for partition in self._partitions}

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


class KafkaSink:
    """An idempotent producer that waits for the acknowledgement of all that it sent; see `ports.Sink`.

    After a send that failed, the next one starts with a new producer: an old one never gets over it.
    """

    def __init__(self, log: KafkaLog, connect: Callable[[], KafkaProducer], limits: Limits) -> None:
        self._log = log
        self._connect = connect
        self._producer: KafkaProducer | None = connect()
        self._limits = limits
        self._partitions: dict[str, int] = {}
        self._turn = 0

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Write `records`; a broker that is away is waited for up to `send_s`, then PeerError. Nothing is dropped."""
        if topic not in self._partitions:
            self._partitions[topic] = self._log.required(topic).partitions
        for start in range(0, len(records), SEND_TOGETHER):
            self._send(topic, records[start : start + SEND_TOGETHER])

    def close(self) -> None:
        """Let go of the connection."""
        if self._producer is not None:
            self._producer.close(timeout=5.0)

    def _send(self, topic: str, records: Sequence[Record]) -> None:
        if self._producer is None:
            self._producer = self._connect()
        try:
            self._send_by(self._producer, topic, records)
        except AnomalyError:
            abandon(self._producer)
            self._producer = None
            raise

    def _send_by(self, producer: KafkaProducer, topic: str, records: Sequence[Record]) -> None:
        count = self._partitions[topic]
        self._turn = (self._turn + 1) % count
        with errors(f"writing to {topic}"):
            sent = []
            for key, value, number in records:
                if number is None:
                    number = self._turn if key is None else partition_of(key, count)
                sent.append(producer.send(topic, value, key, partition=number))
            producer.flush(timeout=self._limits.send_s + 5.0)
            for future in sent:
                if future.failed():
                    raise future.exception


def _created(admin: KafkaAdminClient, name: str, layout: Mapping[str, Any]) -> bool:
    """Whether this call made the topic; somebody else may be faster."""
    try:
        admin.create_topics({name: layout}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        return False
    return True
