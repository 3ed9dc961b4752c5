"""Where a partition is read from, and the refusal to skip what is gone."""

from __future__ import annotations

from typing import Literal, NamedTuple

from anomaly.errors import PeerError

First = Literal["earliest", "latest"]


class Span(NamedTuple):
    """What a partition holds: offsets from `start` up to, not including, `end`."""

    start: int
    end: int


def starting_offset(topic: str, partition: int, stored: int | None, first: First, span: Span) -> int:
    """The offset to read on from: the stored one, or `first` where nothing is stored.

    Raises PeerError if the stored offset is no longer, or not yet, in the partition.
    """
    if stored is None:
        return span.start if first == "earliest" else span.end
    if not span.start <= stored <= span.end:
        raise gone(topic, partition, stored, span)
    return stored


def gone(topic: str, partition: int, offset: int, span: Span) -> PeerError:
    """The error for an offset that the partition does not hold; names both ways out."""
    if offset < span.start:
        what = f"{span.start - offset} messages were deleted before they were read"
        other = "raise the topic's retention and restore the messages from where they are archived"
    else:
        what = "the topic was made again, or lost its end"
        other = "restore the topic's messages"
    return PeerError(
        f"{topic}-{partition}: offset {offset} is asked for, the log holds {span.start} to {span.end}: {what}; "
        f"start over with `--from earliest` (or `--from latest`) together with `--fresh-state`, or {other}"
    )


def no_topic(topic: str, where: str) -> PeerError:
    """The error for a topic that is not there; names the command that makes it."""
    return PeerError(f"{where} has no topic {topic}; `anomaly topics create` makes the topics of a fleet")
