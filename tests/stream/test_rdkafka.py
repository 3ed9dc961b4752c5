"""What only librdkafka has to show, or shows in its own way; what both clients promise is in test_kafka."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from anomaly.errors import DataError, PeerError, StateError
from anomaly.stream.kafka import KafkaLog
from anomaly.stream.kafka_settings import Limits
from anomaly.stream.partitions import partition_of
from anomaly.stream.ports import Block, Log, Record, Source
from anomaly.stream.rdkafka import RdKafkaLog

pytestmark = pytest.mark.kafka
WAIT_S = 20.0


class Owning:
    """An owner that starts everything at 0, and the blocks that its source gave."""

    def __init__(self, log: Log, topic: str, group: str) -> None:
        self.owned: set[int] = set()
        self.read: dict[int, int] = {}
        self.source: Source = log.source(topic, group, self, "earliest")

    def assigned(self, partitions: Sequence[int]) -> Mapping[int, int | None]:
        """Take them; what was read before goes on."""
        self.owned.update(partitions)
        return {number: self.read.get(number, 0) for number in partitions}

    def revoked(self, partitions: Sequence[int]) -> None:
        """Let them go."""
        self.owned.difference_update(partitions)

    def take(self, block: Block) -> None:
        """The next messages of a partition that is owned: none left out, none twice."""
        assert block.partition in self.owned
        first = self.read.get(block.partition, 0)
        assert block.offsets.tolist() == list(range(first, first + len(block.offsets)))
        self.read[block.partition] = first + len(block.offsets)

    def poll(self) -> int:
        """One poll; the number of messages."""
        blocks = self.source.poll(700, 0.02)
        for block in blocks:
            self.take(block)
        return sum(len(block.values) for block in blocks)


@pytest.fixture
def log(kafka: str) -> Iterator[RdKafkaLog]:
    """A log with short limits."""
    made = RdKafkaLog(kafka, {"session.timeout.ms": "6000"}, Limits(bootstrap_s=10, retry_s=5, send_s=30))
    yield made
    made.close()


@pytest.fixture
def topic(log: RdKafkaLog) -> str:
    """A new topic of four partitions."""
    name = f"t{uuid.uuid4().hex[:12]}.telemetry"
    log.create_topics({name: 4}, -1)
    return name


def until(done: Callable[[], bool], *members: Owning) -> None:
    """Let all members poll until `done`."""
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline, [(member.owned, member.read) for member in members]
        for member in members:
            member.poll()


def send(log: Log, topic: str, records: Sequence[Record]) -> None:
    """Write them."""
    sink = log.sink()
    sink.send(topic, records)
    sink.close()


def test_keys_go_where_every_other_producer_sends_them(log: RdKafkaLog, topic: str) -> None:
    """librdkafka's partitioner is the one that the other logs have: `partition_of`."""
    keys = [b"", *(random.Random(n).randbytes(n % 40) for n in range(500))]
    send(log, topic, [Record(key, key) for key in keys])
    reader = log.reader(topic, {})
    found = {(value, block.partition) for block in reader.read_to_end() for value in block.values}
    reader.close()
    assert found == {(key, partition_of(key, 4)) for key in keys}


def test_pauses_lose_and_repeat_nothing(log: RdKafkaLog, topic: str) -> None:
    """Partitions that are paused and resumed while messages wait in the client go on exactly where they were."""
    send(log, topic, [Record(None, b"x" * 200, n % 4) for n in range(20_000)])
    member, chance = Owning(log, topic, topic), random.Random(1)
    until(lambda: len(member.owned) == 4, member)
    while sum(member.read.values()) < 20_000:
        paused = chance.sample(range(4), 2)
        member.source.pause(paused)
        before = dict(member.read)
        member.poll()
        assert [member.read.get(number) for number in paused] == [before.get(number) for number in paused]
        member.source.resume(paused)
        member.poll()
    assert sum(member.source.lag().values()) == 0
    member.source.close()


def test_a_group_may_have_members_of_both_clients(log: RdKafkaLog, topic: str, kafka: str) -> None:
    """While processes change from one client to the other, one by one, the group shares its partitions as ever."""
    other = KafkaLog(kafka, {"session.timeout.ms": "6000"})
    first, second = Owning(other, topic, topic), Owning(log, topic, topic)
    until(lambda: len(first.owned) == len(second.owned) == 2 and not first.owned & second.owned, first, second)
    first.source.close()
    until(lambda: len(second.owned) == 4, second)
    third = Owning(other, topic, topic)
    until(lambda: len(second.owned) == len(third.owned) == 2 and not second.owned & third.owned, second, third)
    second.source.close()
    third.source.close()
    other.close()


def test_what_is_deleted_while_it_waits_is_refused(log: RdKafkaLog, topic: str, kafka: str) -> None:
    """A partition that retention overtakes while it is paused stops with both ways out."""
    member = Owning(log, topic, topic)
    until(lambda: len(member.owned) == 4, member)
    member.source.pause([0])
    send(log, topic, [Record(None, b"x", 0)] * 10)
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.delete_records({TopicPartition(topic, 0): 5})
    admin.close()
    member.source.resume([0])
    with pytest.raises(PeerError, match=r"-0: offset 0 .* 5 to 10: 5 messages.*--from earliest.*--fresh-state"):
        until(lambda: False, member)
    member.source.close()


def test_an_owner_that_refuses_stops_the_poll(log: RdKafkaLog, topic: str) -> None:
    """What the owner raises while it is told of partitions comes out of poll, as itself, and nothing is handed on."""

    class Refusing(Owning):
        def assigned(self, partitions: Sequence[int]) -> Mapping[int, int | None]:
            raise StateError(f"the store of {partitions[0]} is gone")

    member = Refusing(log, topic, topic)
    send(log, topic, [Record(None, b"x", 0)])
    for _ in range(2):
        with pytest.raises(StateError, match="the store of 0 is gone"):
            until(lambda: False, member)
    member.source.close()


def test_the_marks_of_transactions_are_no_lag(log: RdKafkaLog, topic: str, kafka: str) -> None:
    """Behind the last message of a transaction stands its mark, which is never read and yet is not left to read."""
    producer = KafkaProducer(bootstrap_servers=kafka, transactional_id=topic)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"one", partition=0)
    producer.commit_transaction()
    producer.close()
    member = Owning(log, topic, topic)
    until(lambda: member.read.get(0) == 1 and not any(member.source.lag().values()), member)
    member.source.close()
    reader = log.reader(topic, {})
    assert [block.values for block in reader.read_to_end()] == [[b"one"]]
    assert reader.positions[0] == 2
    reader.close()


def test_the_second_of_one_instance_ends_the_first(log: RdKafkaLog, topic: str, kafka: str) -> None:
    """A member that comes with an instance's name takes its place; the one before it is told, and stops."""
    static = RdKafkaLog(kafka, {"session.timeout.ms": "6000", "group.instance.id": "one"})
    first = Owning(static, topic, topic)
    until(lambda: len(first.owned) == 4, first)
    second = Owning(static, topic, topic)
    with pytest.raises(PeerError, match=r"(?i)fenced"):
        until(lambda: False, first, second)
    first.source.close()
    until(lambda: len(second.owned) == 4, second)
    second.source.close()
    static.close()


def test_a_message_that_is_too_large_is_the_callers_fault(log: RdKafkaLog, topic: str) -> None:
    """It is refused by name of the setting that limits it, and the sink goes on with the next."""
    sink = log.sink()
    with pytest.raises(DataError, match=r"max\.message\.bytes"):
        sink.send(topic, [Record(b"k", random.Random(1).randbytes(2_000_000))])
    sink.send(topic, [Record(b"k", b"small")])
    sink.close()
