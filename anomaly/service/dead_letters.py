"""Dead letters on their topic: read, and sent once more to where they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from anomaly.fleet import Fleet
from anomaly.stream.ports import Log, Record
from anomaly.telemetry.records import DeadLetter


def read_dead_letters(fleet: Fleet, log: Log) -> list[DeadLetter]:
    """All dead letters of the fleet, each once, in order of topic, partition and offset."""
    reader = log.reader(fleet.topic("dead-letters"), {})
    try:
        values = [value for block in reader.read_to_end() for value in block.values]
    finally:
        reader.close()
    letters = [msgspec.json.decode(value, type=DeadLetter) for value in dict.fromkeys(values)]
    return sorted(letters, key=lambda letter: (letter.topic, letter.partition, letter.offset))


def retry(log: Log, letters: Sequence[DeadLetter], wanted: Callable[[DeadLetter], bool]) -> int:
    """Send those that are wanted to the topic and partition they came from; answers how many."""
    by_topic: dict[str, list[Record]] = {}
    for letter in filter(wanted, letters):
        by_topic.setdefault(letter.topic, []).append(Record(None, letter.payload, letter.partition))
    sink = log.sink()
    try:
        for topic, records in by_topic.items():
            sink.send(topic, records)
    finally:
        sink.close()
    return sum(map(len, by_topic.values()))
