"""What no real broker can be made to do on demand: fail between two polls, and hand over while it fetches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from anomaly.errors import PeerError
from anomaly.stream.kafka import KafkaReader
from anomaly.stream.kafka_client import KafkaError, Limits, MemberState, TopicPartition
from anomaly.stream.kafka_source import KafkaSource

PLACE = TopicPartition("t", 0)


class Scripted:
    """A consumer of one partition of 6 messages; each poll does the next thing of `script`."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.at = 0
        self.fetched: set[int] = set()
        self.paused = False

    def poll(self, *_: object) -> dict[TopicPartition, list[Any]]:
        """The next two messages, if the script does not say otherwise."""
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        if step is not None:
            step(self)
        found = [SimpleNamespace(offset=at, value=b"%d" % at) for at in range(self.at, min(self.at + 2, 6))]
        self.at += len(found)
        return {PLACE: found} if found else {}

    def subscribe(self, _topics: Sequence[str], listener: Any) -> None:
        """Remember whom to tell of partitions."""
        self.listener = listener

    def seek(self, _: TopicPartition, offset: int) -> None:
        """Go there; kafka-python, in its own thread, may fetch at once."""
        self.at = offset
        if not self.paused:
            self.fetched.add(offset)

    def pause(self, _: TopicPartition) -> None:
        """Fetch nothing."""
        self.paused = True

    def resume(self, *_: TopicPartition) -> None:
        """Fetch again, from where it is."""
        self.paused = False

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "position": self.at,
            "partitions_for_topic": {0},
            "beginning_offsets": {PLACE: 0},
            "end_offsets": {PLACE: 6},
            "group_metadata": SimpleNamespace(state=MemberState.STABLE),
        }
        return lambda *_, **__: answers.get(name)


class Owner:
    """Goes on at offset 4."""

    def assigned(self, _: Sequence[int]) -> Mapping[int, int | None]:
        """Where it was."""
        return {0: 4}

    def revoked(self, _: Sequence[int]) -> None:
        """Nothing is kept."""


def test_a_reader_that_failed_halfway_loses_nothing() -> None:
    """Messages that came before a poll failed are answered by the next call."""
    reader = KafkaReader(Scripted(None, KafkaError("away")), "t", {}, Limits())
    with pytest.raises(PeerError):
        reader.read_to_end()
    assert [block.values for block in reader.read_to_end()] == [[b"0", b"1", b"2", b"3", b"4", b"5"]]


def test_nothing_is_handed_on_from_before_the_owner_said_where_it_goes_on() -> None:
    """What a poll fetched of a partition while it was being given to this member is read again from its place."""
    consumer = Scripted(lambda it: it.listener.on_partitions_assigned([PLACE]))
    source = KafkaSource(lambda: consumer, "t", Owner(), "earliest", Limits())
    taken = [*source.poll(10, 0.1), *source.poll(10, 0.1)]
    assert [block.offsets.tolist() for block in taken] == [[4, 5]]
    assert 0 not in consumer.fetched
    source.close()
