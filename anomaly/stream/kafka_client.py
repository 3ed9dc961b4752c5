"""kafka-python, and how its clients connect, are asked again, and fail; the only module that imports it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
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
from kafka.net.compat import KafkaNetClient
from kafka.structs import MemberState, OffsetAndMetadata

from anomaly.errors import DataError, PeerError
from anomaly.stream.client_log import capture, likely_cause
from anomaly.stream.kafka_settings import Limits, addresses
from anomaly.stream.offsets import Span
from anomaly.stream.ports import Block

__all__ = [
    "ConfigResource",
    "ConfigResourceType",
    "ConsumerRebalanceListener",
    "CooperativeStickyAssignor",
    "KafkaAdminClient",
    "KafkaConsumer",
    "KafkaError",
    "KafkaProducer",
    "Limits",
    "MemberState",
    "OffsetAndMetadata",
    "OffsetOutOfRangeError",
    "RetriableError",
    "TopicAlreadyExistsError",
    "TopicPartition",
    "abandon",
    "block",
    "connect",
    "errors",
    "peer_error",
    "retried",
    "settings_of",
    "spans",
]

T = TypeVar("T")

_JAVA_NAMES = {
    "client.id": "client_id",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "ssl.truststore.location": "ssl_cafile",
}


def settings_of(bootstrap_servers: str, client: Mapping[str, str], limits: Limits) -> dict[str, Any]:
    """What every client needs to reach the cluster. Raises UsageError for an address that is none."""
    return {
        "bootstrap_servers": addresses(bootstrap_servers),
        "bootstrap_timeout_ms": int(limits.bootstrap_s * 1_000),
        **{ours: client[java] for java, ours in _JAVA_NAMES.items() if java in client},
    }


def block(partition: int, messages: Sequence[Any]) -> Block:
    """The messages of one partition as they are handed on; a tombstone is empty."""
    offsets = np.fromiter((message.offset for message in messages), dtype=np.int64, count=len(messages))
    return Block(partition, offsets, [message.value or b"" for message in messages])


def spans(consumer: KafkaConsumer, topic: str, numbers: Sequence[int], retry_s: float) -> dict[int, Span]:
    """What the partitions `numbers` of `topic` hold now."""
    partitions = [TopicPartition(topic, number) for number in numbers]
    starts = retried(lambda: consumer.beginning_offsets(partitions), retry_s)
    ends = retried(lambda: consumer.end_offsets(partitions), retry_s)
    return {partition.partition: Span(starts[partition], ends[partition]) for partition in partitions}


def retried(call: Callable[[], T], retry_s: float) -> T:
    """The answer of `call`; a broker that is away for a moment is asked again for up to `retry_s`."""
    until = time.monotonic() + retry_s
    pause_s = 0.1
    while True:
        try:
            return call()
        except RetriableError as error:
            if time.monotonic() + pause_s > until:
                raise peer_error(f"asking for {retry_s:.0f} s", error) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 2.0)
        except KafkaError as error:
            raise peer_error("asking", error) from error


def connect(client: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """A client that has met a broker; PeerError has the cause, which kafka-python only writes to its log."""
    connections: list[KafkaNetClient] = []

    def connection(**options: Any) -> KafkaNetClient:
        connections.append(KafkaNetClient(**options))
        return connections[-1]

    with capture("kafka") as lines:
        try:
            return client(**settings, kafka_client=connection)
        except KafkaTimeoutError as error:
            connections[0].close()  # the client that failed leaves it open
            servers = ",".join(settings["bootstrap_servers"])
            raise PeerError(
                f"no Kafka broker could be used at {servers} within "
                f"{settings['bootstrap_timeout_ms'] / 1_000:g} s: {likely_cause(lines)}"
            ) from error
        except KafkaError as error:
            raise peer_error("connecting", error) from error


@contextmanager
def errors(doing: str) -> Iterator[None]:
    """kafka-python's errors as ours."""
    try:
        yield
    except MessageSizeTooLargeError as error:
        raise DataError(f"{doing}: {error}; the topic's `max.message.bytes` sets the limit") from error
    except KafkaError as error:
        raise peer_error(doing, error) from error


def peer_error(doing: str, error: KafkaError) -> PeerError:
    """kafka-python's `error` as ours; it names its kind itself."""
    return PeerError(f"Kafka, {doing}: {error}")


def abandon(producer: KafkaProducer) -> None:
    """End a producer with all that it could not send; its own `close` would wait for that, and then raise."""
    producer._sender.force_close()  # there is no public way to give up
    producer._sender.join(5.0)
    with suppress(KafkaError):
        producer.close(timeout=0)
