"""What every log promises, checked against all of them; against Kafka, with either client."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from anomaly.errors import PeerError
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.files import FileLog
from anomaly.stream.offsets import First
from anomaly.stream.ports import Log, Record, Source

DAY_MS = 86_400_000
WAIT_S = 15.0


class Remembering:
    """An owner that keeps offsets, and what it was told, in order."""

    def __init__(self, stored: Mapping[int, int] | None = None) -> None:
        self.stored = dict(stored or {})
        self.told: list[tuple[str, list[int]]] = []

    def assigned(self, partitions: Sequence[int]) -> Mapping[int, int | None]:
        """Remember the partitions, answer what is stored."""
        self.told.append(("assigned", list(partitions)))
        return {number: self.stored.get(number) for number in partitions}

    def revoked(self, partitions: Sequence[int]) -> None:
        """Remember that they are gone."""
        self.told.append(("revoked", list(partitions)))


KAFKA = [pytest.param(name, marks=pytest.mark.kafka) for name in ("kafka", "rdkafka")]


@pytest.fixture(params=["embedded", "files", *KAFKA])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    """One log of each kind."""
    made: Log
    if request.param == "embedded":
        made = EmbeddedLog(tmp_path / "fleet.db")
    elif request.param == "files":
        made = FileLog(tmp_path)
    elif request.param == "rdkafka":
        from anomaly.stream.rdkafka import RdKafkaLog

        made = RdKafkaLog(request.getfixturevalue("kafka"))
    else:
        from anomaly.stream.kafka import KafkaLog

        made = KafkaLog(request.getfixturevalue("kafka"))
    yield made
    made.close()


def test_a_log_knows_how_long_it_keeps_messages(log: Log, topic: str) -> None:
    """What a topic was made with is what is said of it; -1 is for ever."""
    log.create_topics({f"{topic}.all": 1}, -1)
    log.create_topics({f"{topic}.last": 1}, DAY_MS, compacted={f"{topic}.last"})
    kept = [log.retention_ms(name) for name in (topic, f"{topic}.all", f"{topic}.last")]
    assert kept == [-1 if isinstance(log, FileLog) else DAY_MS, -1, -1]


@pytest.fixture
def topic(log: Log) -> str:
    """A new topic of four partitions, or of one where a log has no more."""
    name = f"t{uuid.uuid4().hex[:12]}.telemetry"
    log.create_topics({name: 4}, DAY_MS)
    return name


@pytest.fixture
def join(log: Log, topic: str) -> Iterator[Callable[..., Source]]:
    """Opens sources on the topic that are closed again in the end."""
    opened: list[Source] = []

    def _join(owner: Remembering, first: First = "earliest", group: str = "") -> Source:
        opened.append(log.source(topic, group or uuid.uuid4().hex, owner, first))
        return opened[-1]

    yield _join
    for source in opened:
        source.close()


def send(log: Log, topic: str, values: Sequence[bytes], keys: Sequence[bytes | None] = (None,)) -> None:
    """Write `values` with `keys` in turn."""
    sink = log.sink()
    sink.send(topic, [Record(key, value) for key, value in zip(itertools.cycle(keys), values, strict=False)])
    sink.close()


def drain(source: Source, count: int, at_once: int = 1_000) -> list[tuple[int, int, bytes]]:
    """The next `count` messages as (partition, offset, value)."""
    got: list[tuple[int, int, bytes]] = []
    until = time.monotonic() + WAIT_S
    while len(got) < count:
        assert time.monotonic() < until, f"only {len(got)} of {count} messages came"
        blocks = source.poll(at_once, 0.1)
        assert sum(len(block.values) for block in blocks) <= at_once
        got += [
            (block.partition, int(offset), value)
            for block in blocks
            for offset, value in zip(block.offsets, block.values, strict=True)
        ]
    return got


def numbered(count: int, start: int = 0) -> list[bytes]:
    """`count` different messages."""
    return [b'{"n":%d}' % n for n in range(start, start + count)]


def everything(log: Log, topic: str) -> list[bytes]:
    """What a reader of the whole topic gets."""
    reader = log.reader(topic, {})
    values = [value for block in reader.read_to_end() for value in block.values]
    reader.close()
    return values


def test_topics_are_created_once(log: Log) -> None:
    """create_topics answers what it made, keeps what is there, and topic() states partitions and offsets."""
    name = f"t{uuid.uuid4().hex[:12]}.cohorts"
    assert log.topic(name) is None
    assert log.create_topics({name: 2}, DAY_MS, compacted={name}) == [name]
    send(log, name, [b"kept"], [b"key"])
    assert log.create_topics({name: 2}, DAY_MS, compacted={name}) == []
    found = log.topic(name)
    assert found is not None
    assert (len(found.start), sum(found.start), sum(found.end)) == (found.partitions, 0, 1)


def test_a_missing_topic_names_the_command_that_makes_it(log: Log) -> None:
    """Reading, writing and joining a topic that is not there all say what to do."""
    absent = f"t{uuid.uuid4().hex[:12]}.nowhere"
    for use in (
        lambda: log.source(absent, "g", Remembering(), "earliest"),
        lambda: log.reader(absent, {}),
        lambda: log.sink().send(absent, [Record(None, b"x")]),
    ):
        with pytest.raises(PeerError, match="anomaly topics create"):
            use()


def test_order_offsets_and_bytes_are_kept(log: Log, topic: str, join: Callable[..., Source]) -> None:
    """Each partition gives its messages in the order of writing, offsets without gaps, bytes unchanged."""
    values = [*numbered(500), b"", b"\x00\xff\r\t", "grün".encode() * 1_000]
    keys = [b"vehicle-%d" % n for n in range(37)]
    send(log, topic, values, keys)
    got = drain(join(Remembering()), len(values))
    assert sorted(value for *_, value in got) == sorted(values)
    for partition in {partition for partition, *_ in got}:
        part = [(offset, value) for number, offset, value in got if number == partition]
        assert [offset for offset, _ in part] == list(range(len(part)))
        assert [values.index(value) for _, value in part] == sorted(values.index(value) for _, value in part)


def test_a_key_stays_in_one_partition(log: Log, topic: str, join: Callable[..., Source]) -> None:
    """All messages of a key are in one partition, whoever wrote them and when."""
    keys = [b"vehicle-%d" % n for n in range(20)]
    for _ in range(3):
        send(log, topic, keys, keys)
    homes: dict[bytes, set[int]] = {}
    for partition, _, value in drain(join(Remembering()), 60):
        homes.setdefault(value, set()).add(partition)
    assert len(homes) == 20
    assert all(len(partitions) == 1 for partitions in homes.values())


def test_a_named_partition_is_used(log: Log, topic: str, join: Callable[..., Source]) -> None:
    """A record that names its partition goes there, whatever its key."""
    found = log.topic(topic)
    assert found is not None
    last = found.partitions - 1
    sink = log.sink()
    sink.send(topic, [Record(b"vehicle-%d" % n, b"x", last) for n in range(8)])
    sink.close()
    assert {partition for partition, *_ in drain(join(Remembering()), 8)} == {last}


def test_reading_goes_on_at_the_owners_offsets(log: Log, topic: str, join: Callable[..., Source]) -> None:
    """The owner's offset decides, for each partition, whatever was committed."""
    send(log, topic, numbered(100), [b"v%d" % n for n in range(30)])
    first = join(Remembering())
    seen = drain(first, 100)
    stored = {partition: max(o for p, o, _ in seen if p == partition) - 1 for partition, *_ in seen}
    first.commit({partition: offset + 2 for partition, offset in stored.items()})
    first.close()
    again = drain(join(Remembering(stored)), 2 * len(stored))
    assert sorted(again) == sorted(item for item in seen if item[1] >= stored[item[0]])


@pytest.mark.parametrize("first", ["earliest", "latest"])
def test_a_new_group_starts_where_it_is_told(log: Log, topic: str, join: Callable[..., Source], first: First) -> None:
    """Without an offset of the owner, `earliest` gives all that is there and `latest` only what comes."""
    send(log, topic, numbered(10))
    source, owner = join(owner := Remembering(), first), owner
    until = time.monotonic() + WAIT_S
    old: list[bytes] = []
    while (not owner.told or (first == "earliest" and len(old) < 10)) and time.monotonic() < until:
        old += [value for block in source.poll(100, 0.1) for value in block.values]
    send(log, topic, [b"new"])
    assert [value for *_, value in drain(source, 1)] == [b"new"]
    assert len(old) == (10 if first == "earliest" else 0)


def test_an_offset_that_is_not_there_is_refused(log: Log, topic: str, join: Callable[..., Source]) -> None:
    """A stored offset outside the log stops with both ways out; nothing is skipped in silence."""
    send(log, topic, numbered(10), [b"one"])
    beyond = dict.fromkeys(range(4), 1_000)
    source = join(Remembering(beyond))
    with pytest.raises(PeerError, match=r"--from earliest.*--fresh-state.* or restore") as refused:
        drain(source, 1)
    assert refused.value.exit_code == 4
    with pytest.raises(PeerError, match="offset 1000"):
        log.reader(topic, beyond)


def test_a_reader_reads_to_the_end_and_then_what_is_new(log: Log, topic: str) -> None:
    """A reader gives everything, then nothing, then only what was added; its positions carry over."""
    send(log, topic, numbered(50), [b"v%d" % n for n in range(9)])
    reader = log.reader(topic, {})
    assert sum(len(block.values) for block in reader.read_to_end()) == 50
    assert reader.read_to_end() == []
    send(log, topic, [b"new"])
    assert [value for block in reader.read_to_end() for value in block.values] == [b"new"]
    assert sum(reader.positions.values()) == 51
    later = log.reader(topic, reader.positions)
    send(log, topic, [b"newer"])
    assert [value for block in later.read_to_end() for value in block.values] == [b"newer"]
    reader.close()
    later.close()


def test_paused_partitions_are_silent(log: Log, topic: str, join: Callable[..., Source]) -> None:
    """A paused partition gives nothing, the others go on, and resumed it lost nothing."""
    found = log.topic(topic)
    assert found is not None
    send(log, topic, numbered(5), [b"one"])
    source = join(Remembering())
    ((home, *_),) = {item[:1] for item in drain(source, 5)}
    source.pause([home])
    send(log, topic, numbered(5, 5), [b"one"])
    other = Record(b"two", b"other", (home + 1) % found.partitions)
    if found.partitions > 1:
        log.sink().send(topic, [other])
        assert [value for *_, value in drain(source, 1)] == [b"other"]
    assert source.poll(100, 0.1) == []
    source.resume([home])
    assert [value for *_, value in drain(source, 5)] == numbered(5, 5)


def test_no_more_comes_than_was_asked_for(log: Log, topic: str, join: Callable[..., Source]) -> None:
    """max_messages holds for the sum over partitions, and nothing is lost between polls."""
    send(log, topic, numbered(100), [b"v%d" % n for n in range(30)])
    got = drain(join(Remembering()), 100, at_once=7)
    assert len({item[:2] for item in got}) == 100


def test_lag_counts_what_is_left(log: Log, topic: str, join: Callable[..., Source]) -> None:
    """The lag is what each owned partition still has to read, and 0 at the end."""
    send(log, topic, numbered(20), [b"one"])
    source = join(Remembering())
    drain(source, 5, at_once=5)
    assert sum(source.lag().values()) == 15
    drain(source, 15)
    assert sum(source.lag().values()) == 0


def test_the_owner_is_told_of_every_partition(log: Log, topic: str, join: Callable[..., Source]) -> None:
    """Every partition is given once and taken once; after close, nothing is owned."""
    found = log.topic(topic)
    assert found is not None
    source = join(owner := Remembering())
    send(log, topic, numbered(1))
    drain(source, 1)
    source.close()
    source.close()
    for what in ("assigned", "revoked"):
        numbers = [number for kind, partitions in owner.told if kind == what for number in partitions]
        assert sorted(numbers) == list(range(found.partitions))


def test_a_commit_never_raises(log: Log, topic: str, join: Callable[..., Source]) -> None:
    """commit is for monitors: before the first poll, of partitions not owned, and twice."""
    source = join(Remembering())
    source.commit({0: 0})
    send(log, topic, numbered(3))
    drain(source, 3)
    source.commit({0: 1, 99: 5})
    source.commit({0: 2})
    source.poll(10, 0.0)


def test_what_was_sent_is_there_for_others(log: Log, topic: str) -> None:
    """When send returns, a reader that starts afterwards has it, though the sink is not closed."""
    sink = log.sink()
    for n in range(5):
        sink.send(topic, [Record(None, b"%d" % n)])
        assert b"%d" % n in everything(log, topic)
    sink.close()
