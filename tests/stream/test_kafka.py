"""What only Kafka can show, with both clients: groups whose members come and go, logins, a broker that is away."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from anomaly.errors import PeerError
from anomaly.stream.kafka import KafkaLog
from anomaly.stream.kafka_settings import Limits
from anomaly.stream.kafka_source import KafkaSource
from anomaly.stream.ports import Log, Record
from anomaly.stream.rdkafka import RdKafkaLog
from tests.conftest import missing
from tests.kafka.broker import Broker, shared, unavailable

pytestmark = pytest.mark.kafka
DAY_MS = 86_400_000
WAIT_S = 20.0


class Member:
    """A source, and an owner that knows all that happened to it, in order, with the thread it happened in."""

    offsets: Mapping[int, int] = {}

    def __init__(self, log: Log, topic: str, group: str) -> None:
        self.told: list[tuple[str, int]] = []
        self.threads: set[int] = set()
        self.owned: set[int] = set()
        self.values: list[bytes] = []
        self.read: dict[int, int] = dict(self.offsets)
        self.source = log.source(topic, group, self, "earliest")

    def assigned(self, partitions: Sequence[int]) -> Mapping[int, int | None]:
        """Note it; go on where the shared offsets say."""
        self.owned.update(partitions)
        self._note("assigned", partitions)
        return {number: self.read.get(number) for number in partitions}

    def revoked(self, partitions: Sequence[int]) -> None:
        """Note it, and commit as a scorer would."""
        self._note("revoked", partitions)
        self.source.commit({number: self.read[number] for number in partitions if number in self.read})
        self.owned.difference_update(partitions)

    def poll(self) -> None:
        """One poll; what came is kept."""
        for block in self.source.poll(1_000, 0.02):
            assert block.partition in self.owned
            self.values += block.values
            self.read[block.partition] = int(block.offsets[-1]) + 1

    def _note(self, what: str, partitions: Sequence[int]) -> None:
        self.told += [(what, number) for number in partitions]
        self.threads.add(threading.get_ident())


LOGS: dict[str, Callable[..., Log]] = {"kafka-python": KafkaLog, "librdkafka": RdKafkaLog}


@pytest.fixture(params=list(LOGS))
def new_log(request: pytest.FixtureRequest) -> Callable[..., Log]:
    """What makes a log, by each client."""
    return LOGS[request.param]


@pytest.fixture
def log(kafka: str, new_log: Callable[..., Log]) -> Iterator[Log]:
    """A log with short limits."""
    made = new_log(kafka, {"session.timeout.ms": "6000"}, Limits(bootstrap_s=10, retry_s=5, send_s=30, stall_s=0.3))
    yield made
    made.close()


@pytest.fixture
def topic(log: Log) -> str:
    """A new topic of four partitions."""
    name = f"t{uuid.uuid4().hex[:12]}.telemetry"
    log.create_topics({name: 4}, DAY_MS)
    return name


def until(done: Callable[[], bool], *members: Member) -> None:
    """Let all members poll until `done`."""
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline, [member.told for member in members]
        for member in members:
            member.poll()


def sent(log: Log, topic: str, count: int) -> list[bytes]:
    """`count` new messages over all partitions."""
    values = [uuid.uuid4().bytes for _ in range(count)]
    sink = log.sink()
    sink.send(topic, [Record(value, value, n % 4) for n, value in enumerate(values)])
    sink.close()
    return values


def test_partitions_move_both_ways_and_nothing_is_read_twice(log: Log, topic: str) -> None:
    """A second member takes partitions and gives them back; the first lets go of each before it is taken."""
    offsets: dict[int, int] = {}
    first = Member(log, topic, topic)
    first.read = offsets
    values = sent(log, topic, 200)
    until(lambda: len(first.values) == 200, first)
    second = Member(log, topic, topic)
    second.read = offsets
    until(lambda: len(first.owned) == len(second.owned) == 2, first, second)
    values += sent(log, topic, 200)
    until(lambda: len(first.values) + len(second.values) == 400, first, second)
    second.source.close()
    until(lambda: len(first.owned) == 4, first)
    values += sent(log, topic, 200)
    until(lambda: len(first.values) + len(second.values) == 600, first)
    first.source.close()
    assert sorted(first.values + second.values) == sorted(values)
    moved = sorted(number for what, number in second.told if what == "assigned")
    assert sorted(number for what, number in first.told[:6] if what == "revoked") == moved
    for member, number in itertools.product((first, second), range(4)):
        kinds = [what for what, partition in member.told if partition == number]
        assert kinds == ["assigned", "revoked"] * (len(kinds) // 2)
    assert first.threads == second.threads == {threading.get_ident()}


def test_what_retention_deleted_is_refused(log: Log, topic: str, kafka: str) -> None:
    """A stored offset below the log's start, and one that is overtaken while reading, stop with both ways out."""
    sent(log, topic, 40)
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.delete_records({TopicPartition(topic, 0): 5})
    admin.close()
    member = Member(log, topic, topic)
    member.read = {0: 2}
    with pytest.raises(
        PeerError, match=r"-0: offset 2 .* 5 to 10: 3 messages.*--from earliest.*--fresh-state.*retention"
    ):
        until(lambda: False, member)
    member.source.close()


def test_the_group_is_told_how_far_it_is(log: Log, topic: str, kafka: str) -> None:
    """Lag monitors see the offsets that were committed while reading, and the last ones after close."""
    sent(log, topic, 40)
    member = Member(log, topic, group := uuid.uuid4().hex)
    until(lambda: len(member.values) == 40, member)
    member.source.commit({0: 7})
    admin = KafkaAdminClient(bootstrap_servers=kafka)

    def told(number: int) -> int | None:
        found = admin.list_group_offsets({group: None})[group].get(TopicPartition(topic, number))
        return found.offset if found else None

    until(lambda: told(0) == 7, member)
    member.source.close()
    assert [told(number) for number in range(4)] == [10] * 4
    admin.close()


@pytest.mark.parametrize("new_log", [KafkaLog])  # librdkafka needs no watchdog
def test_a_stalled_consumer_joins_anew(log: Log, topic: str, caplog: pytest.LogCaptureFixture) -> None:
    """A partition that stands still though there is more is sought again, then the group is joined anew."""
    member = Member(log, topic, topic)
    until(lambda: len(member.owned) == 4, member)
    assert isinstance(member.source, KafkaSource)
    member.source._consumer.pause(TopicPartition(topic, 2))  # behind the source's back: it never comes again
    sent(log, topic, 40)
    until(lambda: len(member.values) == 40, member)
    member.source.close()
    assert "-2 stands still at 0, though there is more" in caplog.text
    assert "joining the group anew" in caplog.text


def test_topics_are_made_as_asked(log: Log, kafka: str) -> None:
    """Retention, compaction, and room for a dead letter that holds a whole message in base64."""
    name = f"t{uuid.uuid4().hex[:12]}"
    log.create_topics({f"{name}.dead-letters": 1, f"{name}.cohorts": 1}, DAY_MS, compacted={f"{name}.cohorts"})
    log.sink().send(f"{name}.dead-letters", [Record(b"k", os.urandom(1_400_000))])
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    wanted = [ConfigResource(ConfigResourceType.TOPIC, f"{name}.{kind}") for kind in ("dead-letters", "cohorts")]
    kept, compacted = (str(found) for found in admin.describe_configs(wanted)["topic"].values())
    admin.close()
    assert str(DAY_MS) in kept
    assert "compact" not in kept
    assert "compact" in compacted


CONNECT = """
import json, sys
from anomaly.errors import PeerError
from anomaly.stream.kafka import KafkaLog
from anomaly.stream.kafka_settings import Limits
try:
    KafkaLog(sys.argv[1], json.loads(sys.argv[2]), Limits(bootstrap_s=4)).close()
except PeerError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(("module", "name"), [("kafka", "KafkaLog"), ("rdkafka", "RdKafkaLog")])
def test_a_refused_connection_says_why(kafka_broker: Broker, module: str, name: str) -> None:
    """The cause, which the clients only mention in passing, is in the message; the password is not."""
    if not kafka_broker.login:
        pytest.skip("the broker named in ANOMALY_TEST_KAFKA has no listener with a login")
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "fleet"}
    login["sasl.password"] = kafka_broker.password
    cases: list[tuple[str, dict[str, str], int, str]] = [
        (kafka_broker.login, login, 0, ""),
        (
            kafka_broker.login,
            login | {"sasl.password": "not-it"},
            4,
            "(SaslAuthenticationFailedError|hung up|SASL authentication error).*check .*sasl",
        ),
        (kafka_broker.login, login | {"security.protocol": "SASL_SSL"}, 4, "SSL.*check security.protocol"),
        (kafka_broker.login, {}, 4, "hung up: check the login .* whether it wants TLS"),
        ("127.0.0.1:1", {}, 4, "(ECONNREFUSED|Connection refused).*; nothing listens there"),
    ]
    command = [sys.executable, "-c", CONNECT.format(module=module, log=name)]
    running = [
        subprocess.Popen([*command, server, json.dumps(client)], stdout=subprocess.PIPE, text=True)
        for server, client, *_ in cases
    ]
    for process, (server, _, code, words) in zip(running, cases, strict=True):
        said = process.communicate()[0]
        assert process.returncode == code
        assert re.search(words if code == 0 else rf"at {server} within 4 s: .*{words}", said), said
        assert "not-it" not in said


@pytest.fixture(scope="module")
def stoppable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of our own, which nobody else misses while it stands still."""
    if reason := unavailable():
        missing(reason, "ANOMALY_REQUIRE_KAFKA")
    with shared(tmp_path_factory.mktemp("stoppable")) as running:
        yield running


def test_a_broker_that_is_away_for_a_while_loses_nothing(stoppable: Broker, new_log: Callable[..., Log]) -> None:
    """While the broker stands still, send waits and poll answers nothing; then all is there, once."""
    log = new_log(stoppable.bootstrap, {}, Limits(retry_s=10, send_s=30))
    topic = f"t{uuid.uuid4().hex[:12]}.telemetry"
    log.create_topics({topic: 4}, DAY_MS)
    member = Member(log, topic, topic)
    values = sent(log, topic, 40)
    until(lambda: len(member.values) == 40, member)
    sink = log.sink()
    sink.send(topic, [Record(b"k", values[0])])
    os.kill(stoppable.pid, signal.SIGSTOP)
    threading.Timer(1.0, os.kill, (stoppable.pid, signal.SIGCONT)).start()
    member.poll()
    sink.send(topic, [Record(b"k", b"%d" % n) for n in range(100)])
    until(lambda: len(member.values) == 141, member)
    assert member.values[41:] == [b"%d" % n for n in range(100)]
    sink.close()
    member.source.close()
    log.close()


def test_a_send_that_cannot_be_had_is_an_error(stoppable: Broker, new_log: Callable[..., Log]) -> None:
    """A broker that does not come back within the limit is a PeerError; once it is back, the next send is taken."""
    log = new_log(stoppable.bootstrap, {}, Limits(send_s=1.0))
    topic = f"t{uuid.uuid4().hex[:12]}.telemetry"
    log.create_topics({topic: 1}, DAY_MS)
    sink = log.sink()
    sink.send(topic, [Record(b"k", b"before")])
    os.kill(stoppable.pid, signal.SIGSTOP)
    try:
        with pytest.raises(PeerError, match=f"writing to {topic}"):
            sink.send(topic, [Record(b"k", b"x")])
    finally:
        os.kill(stoppable.pid, signal.SIGCONT)
    sink.send(topic, [Record(b"k", b"after")])
    sink.close()
    log.close()
