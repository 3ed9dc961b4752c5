"""Tests of what a log of JSONL files alone promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.errors import DataError, PeerError
from anomaly.stream.files import FileLog
from anomaly.stream.ports import Record

LINE = st.binary(max_size=40).map(lambda value: value.replace(b"\n", b""))


class From:
    """An owner that goes on at one offset."""

    def __init__(self, offset: int | None) -> None:
        self.offset = offset

    def assigned(self, partitions: Sequence[int]) -> Mapping[int, int | None]:
        """Every partition from the one offset."""
        return dict.fromkeys(partitions, self.offset)

    def revoked(self, partitions: Sequence[int]) -> None:
        """Nothing to write down."""


def values_of(log: FileLog, topic: str) -> list[bytes]:
    """All lines of a topic."""
    with closing(log.reader(topic, {})) as reader:
        return [value for block in reader.read_to_end() for value in block.values]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(LINE, max_size=10), max_size=5), st.integers(1, 20), st.integers(0, 60))
def test_any_bytes_but_line_breaks_come_back(
    tmp_path_factory: pytest.TempPathFactory, sends: list[list[bytes]], at_once: int, start: int
) -> None:
    """Lines come back byte for byte, numbered from 0, from any line on and in any pieces."""
    log = FileLog(tmp_path_factory.mktemp("log"))
    log.create_topics({"t": 1}, 0)
    for values in sends:
        log.sink().send("t", [Record(None, value) for value in values])
    sent = [value for values in sends for value in values]
    start = min(start, len(sent))
    source = log.source("t", "g", From(start), "earliest")
    got: list[tuple[int, bytes]] = []
    while blocks := source.poll(at_once, 0.0):
        got += [pair for block in blocks for pair in zip(block.offsets.tolist(), block.values, strict=True)]
    assert got == list(enumerate(sent))[start:]
    source.close()


def test_a_file_made_by_hand_is_a_log_of_one_topic(tmp_path: Path) -> None:
    """A single file is named after itself; a last line without line end counts, also after more is appended."""
    file = tmp_path / "raw.telemetry.jsonl"
    file.write_bytes(b'{"a":1}\n{"a":2}')
    log = FileLog(file)
    found = log.topic("raw.telemetry")
    assert found is not None
    assert found.end == [2]
    with closing(log.reader("raw.telemetry", {})) as reader:
        assert [block.values for block in reader.read_to_end()] == [[b'{"a":1}', b'{"a":2}']]
        log.sink().send("raw.telemetry", [Record(None, b'{"a":3}')])
        assert [(block.offsets.tolist(), block.values) for block in reader.read_to_end()] == [([2], [b'{"a":3}'])]
    assert file.read_bytes() == b'{"a":1}\n{"a":2}\n{"a":3}\n'


def test_what_no_line_can_hold_is_refused_whole(tmp_path: Path) -> None:
    """A message with a line break, or for another partition, is refused, and nothing of its send is written."""
    log = FileLog(tmp_path)
    log.create_topics({"t": 4}, 0)
    with pytest.raises(DataError, match="line break"):
        log.sink().send("t", [Record(None, b"good"), Record(None, b"two\nlines")])
    with pytest.raises(PeerError, match="partition 0 alone"):
        log.sink().send("t", [Record(None, b"good", 3)])
    assert values_of(log, "t") == []


def test_an_unwritable_folder_is_said(tmp_path: Path) -> None:
    """DataError names the file when a topic cannot be made."""
    (tmp_path / "taken").write_text("a file, no folder")
    with pytest.raises(DataError, match="taken"):
        FileLog(tmp_path / "taken").create_topics({"t": 1}, 0)
