"""What every log of messages can do. Kafka, the embedded log and files are its three implementations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Record(NamedTuple):
    """One message to write. Records of one key go to one partition; `partition`, if not None, says which."""

    key: bytes | None
    value: bytes
    partition: int | None = None


class Block(NamedTuple):
    """Messages of one partition, in order: `offsets` int64[n], `values` n payloads."""

    partition: int
    offsets: NDArray[np.int64]
    values: Sequence[bytes]


class Topic(NamedTuple):
    """A topic as it is: `start` and `end` have one offset a partition; `end` is that of the next message."""

    name: str
    partitions: int
    start: Sequence[int]
    end: Sequence[int]


class Owner(Protocol):
    """Who is told which partitions a source was given.

    Called from inside `Source.poll` and `Source.close`, in the thread of their caller.
    """

    def assigned(self, partitions: Sequence[int]) -> Mapping[int, int | None]:
        """Take `partitions` over; answers the offset that each goes on from, None where it has no state."""

    def revoked(self, partitions: Sequence[int]) -> None:
        """Give `partitions` up: what was done for them is written down before this returns."""


class Source(Protocol):
    """Messages of one topic from the partitions that a group gave to this process."""

    def poll(self, max_messages: int, timeout_s: float) -> list[Block]:
        """What has arrived, at most `max_messages`; waits up to `timeout_s` for the first, [] if none came.

        Raises PeerError if an offset that was asked for is no longer there; the message names both ways out.
        """

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group how far the partitions are, for lag monitors. Never raises for a lost broker."""

    def committed(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """The offsets that the group was told by `commit`, where there is a group and it was told any."""

    def lag(self) -> Mapping[int, int]:
        """Messages that each owned partition still has to read."""

    def pause(self, partitions: Sequence[int]) -> None:
        """Read nothing from `partitions` until `resume`; they stay owned."""

    def resume(self, partitions: Sequence[int]) -> None:
        """Read from `partitions` again."""

    def close(self) -> None:
        """Give all partitions up, then leave the group."""


class Reader(Protocol):
    """A whole topic, read outside any group by everybody who needs all of it."""

    def read_to_end(self) -> list[Block]:
        """Everything that came since the last call that did not fail, or since the positions given at the start."""

    @property
    def positions(self) -> Mapping[int, int]:
        """The offset of the next message of each partition."""

    def close(self) -> None:
        """Let go of the connection."""


class Sink(Protocol):
    """Where records are written to."""

    def send(self, topic: str, records: Sequence[Record]) -> None:
        """Write `records` in order; they are durable when this returns. PeerError if that cannot be had."""

    def close(self) -> None:
        """Let go of the connection."""


class Log(Protocol):
    """A place that topics live in."""

    def create_topics(
        self, partitions: Mapping[str, int], retention_ms: int, compacted: Collection[str] = (), replication: int = 1
    ) -> list[str]:
        """Create those of the topics that are missing; answers their names.

        Messages are kept for `retention_ms`, -1: for ever. Those in `compacted` keep the last one of each key.
        `replication` is the number of brokers that hold each partition, where a log has more than one.
        """

    def topic(self, name: str) -> Topic | None:
        """The topic as it is now, None if there is none. Raises PeerError if the log cannot be reached."""

    def retention_ms(self, topic: str) -> int:
        """How long messages of a topic that is there are kept, -1: for ever, as where it keeps the last of each key."""

    def source(self, topic: str, group: str, owner: Owner, first: Literal["earliest", "latest"]) -> Source:
        """Join `group` on `topic`; a partition for which the owner has no offset starts at `first`."""

    def reader(self, topic: str, positions: Mapping[int, int]) -> Reader:
        """Read `topic` whole, from `positions` on (a partition that is not in it: from its start)."""

    def sink(self) -> Sink:
        """A place to write to."""

    def close(self) -> None:
        """Let go of everything."""
