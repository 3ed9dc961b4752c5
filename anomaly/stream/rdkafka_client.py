"""librdkafka (confluent-kafka), and how its clients connect, are asked again, and fail; only this module imports it."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.cimpl import NewTopic

from anomaly.errors import DataError, PeerError
from anomaly.stream.client_log import likely_cause
from anomaly.stream.kafka_settings import Limits, addresses
from anomaly.stream.offsets import Span
from anomaly.stream.ports import Block

__all__ = [
    "CALL_S",
    "AdminClient",
    "Causes",
    "ConfigResource",
    "Consumer",
    "KafkaError",
    "KafkaException",
    "Message",
    "NewTopic",
    "Offsets",
    "Producer",
    "TopicPartition",
    "blocks",
    "error_of",
    "errors",
    "is_passing",
    "met",
    "peer_error",
    "retried",
    "settings_of",
]

T = TypeVar("T")
_logger = logging.getLogger(__name__)

CALL_S = 5.0
"""How long one question waits for its answer before it is asked again."""
_START, _END = -2, -1
_OWN_NAMES = {"ssl.truststore.location": "ssl.ca.location"}
_SHARED_NAMES = ("client.id", "security.protocol", "sasl.mechanism", "sasl.username", "sasl.password")
_PASSING = {
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.NOT_CONTROLLER,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
}
"""Errors that pass by themselves: a broker that is away or not ready, a group that is on the move."""


class Causes:
    """What librdkafka says about broken connections, which its own errors do not repeat: the last few."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=20)

    def __call__(self, error: KafkaError) -> None:
        """librdkafka's `error_cb`."""
        self.lines.append(error.str())
        level = logging.INFO if error.code() == KafkaError._TRANSPORT else logging.WARNING
        _logger.log(level, "%s: %s", error.name(), error.str())


def settings_of(bootstrap_servers: str, client: Mapping[str, str]) -> dict[str, Any]:
    """What every client needs to reach the cluster. Raises UsageError for an address that is none."""
    return {
        "bootstrap.servers": ",".join(addresses(bootstrap_servers)),
        "log_level": 2,  # what matters comes as an error; librdkafka writes the rest to stderr
        "socket.timeout.ms": 10_000,
        **{name: client[name] for name in _SHARED_NAMES if name in client},
        **{ours: client[java] for java, ours in _OWN_NAMES.items() if java in client},
    }


def met(consumer: Consumer, servers: str, causes: Causes, limits: Limits) -> Consumer:
    """`consumer`, after it has met a broker; PeerError, with the cause, if it meets none in time."""
    until = time.monotonic() + limits.bootstrap_s
    while True:
        try:
            consumer.list_topics(timeout=min(1.0, limits.bootstrap_s))
        except KafkaException as error:
            consumer.poll(0)  # tells `causes`
            if time.monotonic() > until:
                consumer.close()
                raise PeerError(
                    f"no Kafka broker could be used at {servers} within {limits.bootstrap_s:g} s: "
                    f"{likely_cause(list(causes.lines))}"
                ) from error
        else:
            return consumer


def blocks(messages: Sequence[Message]) -> list[Block]:
    """`messages`, none of them an error, as blocks in order of partition; a tombstone is empty."""
    if not messages:
        return []
    count = len(messages)
    numbers = np.fromiter(map(Message.partition, messages), dtype=np.int32, count=count)
    offsets = np.fromiter(map(Message.offset, messages), dtype=np.int64, count=count)
    values = [message.value() or b"" for message in messages]
    if (numbers == numbers[0]).all():
        return [Block(int(numbers[0]), offsets, values)]
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers[order])) + 1
    return [
        Block(int(numbers[rows[0]]), offsets[rows], [values[row] for row in rows.tolist()])
        for rows in np.split(order, cuts)
    ]


class Offsets:
    """The first and last offsets of partitions, asked for on a connection where no fetch is waited for.

    A broker answers the requests of one connection in turn, and a fetch of an idle partition takes its time.
    """

    def __init__(self, observer: Consumer, retry_s: float) -> None:
        self._observer = observer
        self.retry_s = retry_s

    def ends(self, topic: str, numbers: Sequence[int]) -> dict[int, int]:
        """The offset of the next message of each of the partitions `numbers`."""
        return self._asked(topic, numbers, _END)

    def spans(self, topic: str, numbers: Sequence[int]) -> dict[int, Span]:
        """What the partitions `numbers` hold now."""
        starts, ends = self._asked(topic, numbers, _START), self._asked(topic, numbers, _END)
        return {number: Span(starts[number], ends[number]) for number in numbers}

    def _asked(self, topic: str, numbers: Sequence[int], which: int) -> dict[int, int]:
        def ask() -> dict[int, int]:
            asked = [TopicPartition(topic, number, which) for number in numbers]
            found = self._observer.offsets_for_times(asked, timeout=CALL_S)
            for partition in found:
                if partition.error:
                    raise KafkaException(partition.error)
            return {partition.partition: partition.offset for partition in found}

        return retried(ask, self.retry_s, KafkaError.UNKNOWN_TOPIC_OR_PART) if numbers else {}


def retried(call: Callable[[], T], retry_s: float, passing: int | None = None) -> T:
    """The answer of `call`; a broker that is away for a moment is asked again for up to `retry_s`.

    So is one that answers `passing`: it leads a new partition and has not heard of it yet.
    """
    until = time.monotonic() + retry_s
    pause_s = 0.1
    while True:
        try:
            return call()
        except KafkaException as error:
            if not is_passing(error_of(error)) and error_of(error).code() != passing:
                raise peer_error("asking", error_of(error)) from error
            if time.monotonic() + pause_s > until:
                raise peer_error(f"asking for {retry_s:.0f} s", error_of(error)) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 2.0)


def is_passing(error: KafkaError) -> bool:
    """Whether what failed may work in a moment, without anybody doing anything."""
    return error.code() in _PASSING and not error.fatal()


def error_of(error: KafkaException) -> KafkaError:
    """What an exception of librdkafka is about."""
    found: KafkaError = error.args[0]
    return found


@contextmanager
def errors(doing: str) -> Iterator[None]:
    """librdkafka's errors as ours."""
    try:
        yield
    except KafkaException as error:
        raise peer_error(doing, error_of(error)) from error


def peer_error(doing: str, error: KafkaError) -> PeerError | DataError:
    """librdkafka's `error` as ours; DataError for a message that is too large for the topic."""
    if error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE):
        return DataError(f"{doing}: {error.str()}; the topic's `max.message.bytes` sets the limit")
    return PeerError(f"Kafka, {doing}: {error.name()}: {error.str()}")
