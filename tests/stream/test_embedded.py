"""Tests of what the embedded log alone promises: durability, retention, several processes, small files."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.errors import ConfigError, DataError, PeerError
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.ports import Record

DAY_MS = 86_400_000


class From:
    """An owner whose partitions all go on at one offset."""

    def __init__(self, offset: int | None) -> None:
        self.offset = offset

    def assigned(self, partitions: Sequence[int]) -> Mapping[int, int | None]:
        """Every partition from the one offset."""
        return dict.fromkeys(partitions, self.offset)

    def revoked(self, partitions: Sequence[int]) -> None:
        """Nothing to write down."""


def opened(path: Path, now: list[int] | None = None) -> EmbeddedLog:
    """A log with the topic `t` of one partition that keeps a day; `now` holds its clock."""
    clock = now or [0]
    log = EmbeddedLog(path, now_ms=lambda: clock[0])
    log.create_topics({"t": 1}, DAY_MS)
    return log


def append(log: EmbeddedLog, values: Sequence[bytes]) -> None:
    """One `send` of `values`."""
    sink = log.sink()
    sink.send("t", [Record(None, value) for value in values])
    sink.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=30), min_size=1, max_size=8),
    st.integers(1, 40),
    st.integers(0, 200),
)
def test_any_bytes_in_any_blocks_read_in_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, sends: list[list[bytes]], at_once: int, start: int
) -> None:
    """What was sent comes back byte for byte, however it was cut when written and when read, from any offset."""
    log = opened(tmp_path_factory.mktemp("log") / "fleet.db")
    for values in sends:
        append(log, values)
    sent = [value for values in sends for value in values]
    start = min(start, len(sent))
    source = log.source("t", "g", From(start), "earliest")
    got: list[tuple[int, bytes]] = []
    while blocks := source.poll(at_once, 0.0):
        assert sum(len(block.values) for block in blocks) <= at_once
        got += [pair for block in blocks for pair in zip(block.offsets.tolist(), block.values, strict=True)]
    assert got == list(enumerate(sent))[start:]
    source.close()
    log.close()


def test_what_was_sent_survives_a_kill(tmp_path: Path) -> None:
    """Messages whose send returned are there after SIGKILL of the writer, and the file is sound."""
    log = opened(tmp_path / "fleet.db")
    code = (
        "import sys, os, signal\nfrom pathlib import Path\n"
        "from anomaly.stream.embedded import EmbeddedLog\nfrom anomaly.stream.ports import Record\n"
        "sink = EmbeddedLog(Path(sys.argv[1])).sink()\n"
        "for n in range(50): sink.send('t', [Record(None, b'%d' % n)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(log.path)], check=False)
    values = [value for block in log.reader("t", {}).read_to_end() for value in block.values]
    assert values == [b"%d" % n for n in range(50)]
    assert sqlite3.connect(log.path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_processes_append_at_the_same_time(tmp_path: Path) -> None:
    """Four writers at once lose nothing and leave no gap; each one's own order is kept."""
    log = opened(tmp_path / "fleet.db")
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from anomaly.stream.embedded import EmbeddedLog\nfrom anomaly.stream.ports import Record\n"
        "sink = EmbeddedLog(Path(sys.argv[1])).sink()\n"
        "for n in range(100): sink.send('t', [Record(None, b'%s:%d' % (sys.argv[2].encode(), n))])\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(log.path), str(who)]) for who in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    (block,) = log.reader("t", {}).read_to_end()
    assert block.offsets.tolist() == list(range(400))
    for who in range(4):
        mine = [value for value in block.values if value.startswith(b"%d:" % who)]
        assert mine == [b"%d:%d" % (who, n) for n in range(100)]


def test_old_blocks_go_and_their_readers_are_told(tmp_path: Path) -> None:
    """After the retention the start moves; an offset before it is refused with both ways out, never reset."""
    log = opened(tmp_path / "fleet.db", now := [0])
    append(log, [b"old"] * 10)
    reading = log.source("t", "stays", From(None), "earliest")
    assert len(reading.poll(4, 0.0)[0].values) == 4
    now[0] = 2 * DAY_MS
    append(log, [b"new"] * 3)
    found = log.topic("t")
    assert found is not None
    assert (found.start, found.end) == ([10], [13])
    with pytest.raises(PeerError, match=r"offset 2 .* holds 10 to 13.*--from earliest.*--fresh-state.*retention"):
        log.source("t", "late", From(2), "earliest").poll(10, 0.0)
    assert len(reading.poll(6, 0.0)[0].values) == 6  # they were read with their block
    assert [block.offsets.tolist() for block in reading.poll(10, 0.0)] == [[10, 11, 12]]


def test_messages_deleted_ahead_of_a_reader_are_not_skipped(tmp_path: Path) -> None:
    """A source that is overtaken by the retention stops; a reader of the whole topic goes on with what is there."""
    log = opened(tmp_path / "fleet.db", now := [0])
    for _ in range(2):
        append(log, [b"old"] * 4_096)
    source, reader = log.source("t", "g", From(None), "earliest"), log.reader("t", {})
    source.poll(4_096, 0.0)
    now[0] = 2 * DAY_MS
    append(log, [b"new"])
    with pytest.raises(PeerError, match="4096 messages were deleted"):
        source.poll(10, 0.0)
    assert [block.values for block in reader.read_to_end()] == [[b"new"]]


def test_a_compacted_topic_and_one_kept_for_ever_keep_all(tmp_path: Path) -> None:
    """No retention touches them."""
    now = [0]
    log = EmbeddedLog(tmp_path / "fleet.db", now_ms=lambda: now[0])
    log.create_topics({"cohorts": 1}, DAY_MS, compacted={"cohorts"})
    log.create_topics({"labels": 1}, -1)
    sink = log.sink()
    for name in ("cohorts", "labels"):
        now[0] = 0
        sink.send(name, [Record(b"k", b"1")])
        now[0] = 1_000 * DAY_MS
        sink.send(name, [Record(b"k", b"2")])
        assert sum(len(block.values) for block in log.reader(name, {}).read_to_end()) == 2


def test_a_full_disk_is_said_and_leaves_no_half_send(tmp_path: Path) -> None:
    """DataError with exit code 5; nothing of the send is there, and with room again it goes on."""
    log = opened(tmp_path / "fleet.db")
    append(log, [b"first"])
    sink = log.sink()
    pages = sink._connection.execute("PRAGMA page_count").fetchone()[0]
    sink._connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(DataError, match=r"fleet.db: database or disk is full.*nothing of this was written") as full:
        sink.send("t", [Record(None, b"x" * 1_000)] * 1_000)
    assert full.value.exit_code == 5
    sink._connection.execute(f"PRAGMA max_page_count = {pages + 1_000}")
    sink.send("t", [Record(None, b"second")])
    assert [block.values for block in log.reader("t", {}).read_to_end()] == [[b"first", b"second"]]


def test_a_second_source_of_a_group_is_refused(tmp_path: Path) -> None:
    """One source per group and topic; closed, it may be opened again; other groups are free."""
    log = opened(tmp_path / "fleet.db")
    first = log.source("t", "g", From(None), "earliest")
    with pytest.raises(ConfigError, match="already reads t"):
        log.source("t", "g", From(None), "earliest")
    log.source("t", "other", From(None), "earliest").close()
    first.close()
    log.source("t", "g", From(None), "earliest").close()


def test_other_files_are_not_taken_for_a_log(tmp_path: Path) -> None:
    """A database of somebody else's, a newer log, a text and a missing folder are refused and left as they are."""
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    opened(tmp_path / "newer.db").close()
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    (tmp_path / "text.db").write_text("not a database, but long enough to be read as a header " * 20)
    for name, error, words in (
        ("other.db", DataError, "no log of messages"),
        ("newer.db", DataError, "version 99"),
        ("text.db", DataError, "not a database"),
        ("absent/x.db", PeerError, "does its folder exist"),
    ):
        with pytest.raises(error, match=words):
            EmbeddedLog(tmp_path / name)


def test_sizes_are_small(tmp_path: Path) -> None:
    """A block costs its bytes, four for each length, and little more."""
    log = opened(tmp_path / "fleet.db")
    for _ in range(20):
        append(log, [b"x" * 250] * 1_000)
    pages, size = (log._connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
    assert size == 16_384
    assert pages * size < 1.1 * 20 * 1_000 * 254
