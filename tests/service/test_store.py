"""A partition's store: one owner, one transaction, and files that do not fit are refused."""

from __future__ import annotations

import resource
import signal
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.errors import DataError, StateError
from anomaly.service import store as storing
from anomaly.service.events import earliest
from anomaly.service.store import Checkpoint, LostPartition, PartitionStore
from anomaly.service.stored import Control, Identity, Letter, Rows, StoreReader, store_path, store_paths

IDENTITY = Identity("fleet", "frame")
NOTHING = Checkpoint(0, (b"delta",), {}, (), {}, (), ())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store will be."""
    return store_path(tmp_path, "a/group", "bus.telemetry", 3)


def test_what_was_written_is_there_again(path: Path) -> None:
    """All parts of a checkpoint come back from the file, for the next owner and for a reader beside it."""
    store = PartitionStore(path, IDENTITY)
    control = Control(5, "v1", "restart", "d", 7, b"{}")
    letter, rows = Letter("alerts", b"v1", b"alert"), Rows("decisions", 5, 9, b"ipc")
    store.checkpoint(
        Checkpoint(10, (b"d1", b"d2"), {"e": {0: 4}}, (control,), {"a": b"1", "b": b"2"}, (letter,), (rows,))
    )
    store.checkpoint(Checkpoint(20, (b"d3",), {"e": {0: 5}}, (), {"a": None}, (), (), pages={0: b"page"}))
    store.close()
    for again in (PartitionStore(path, IDENTITY), StoreReader(path)):
        assert (again.offset(), again.positions(), [*again.state()]) == (
            20,
            {"e": {0: 5}},
            [b"page", b"d1", b"d2", b"d3"],
        )
        assert (again.control(), again.alerts(), again.rows("decisions")) == ([control], {"b": b"2"}, [rows])
        assert again.pending() == [(1, letter)]
        assert again.sizes() == (4, 6, 3)
        again.close()


def test_superseded_deltas_are_dropped_the_oldest_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What all pages hold is dropped, so much at a checkpoint that it makes no pause; nothing later is."""
    monkeypatch.setattr(storing, "DROP_LEAST", 1)
    store = PartitionStore(path, IDENTITY)
    store.checkpoint(NOTHING._replace(deltas=(b"d1", b"d2", b"d3", b"d4")))
    last = store.checkpoint(NOTHING._replace(deltas=(b"d5",), pages={0: b"page"}, superseded=3))
    assert (last, [*store.state()]) == ((5, 2), [b"page", b"d3", b"d4", b"d5"])
    store.checkpoint(NOTHING._replace(deltas=(), superseded=3))
    assert [*store.state()] == [b"page", b"d4", b"d5"]


def test_a_vehicle_that_was_let_go_is_there_until_it_comes_back(path: Path) -> None:
    """What was written of a vehicle is found by its name, the last time counts, and it goes when it came back."""
    store = PartitionStore(path, IDENTITY)
    store.checkpoint(NOTHING._replace(idle={"a": b"1", "b": b"2"}))
    assert (store.idle(["a", "c"]), store.away(), store.idles()) == ({"a": b"1"}, ["a", "b"], True)
    store.checkpoint(NOTHING._replace(returned=["a", "b"], idle={"a": b"3"}))
    assert store.idle(["a", "b"]) == {"a": b"3"}
    store.checkpoint(NOTHING._replace(returned=["a"]))
    assert not store.idles()


def test_a_late_former_owner_writes_nothing(path: Path) -> None:
    """After another process opened the store, none of the former owner's transactions goes through."""
    late = PartitionStore(path, IDENTITY)
    late.checkpoint(NOTHING._replace(offset=1, outbox=(Letter("t", None, b"x"),)))
    owner = PartitionStore(path, IDENTITY)
    for write in (
        lambda: late.checkpoint(NOTHING._replace(offset=99)),
        lambda: late.mark_sent([1]),
        lambda: late.record_cut({"decisions": ["file"]}),
    ):
        with pytest.raises(LostPartition, match="nothing was written"):
            write()
    assert (owner.offset(), len(owner.pending()), owner.files()) == (1, 1, {})
    owner.checkpoint(NOTHING._replace(offset=2))
    assert owner.offset() == 2


def test_a_newer_store_is_refused(path: Path) -> None:
    """A file of a later version is left alone, with what to do; so is a file that is no store."""
    PartitionStore(path, IDENTITY).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 4")
    connection.close()
    for opening in (PartitionStore, lambda path, _: StoreReader(path)):
        with pytest.raises(StateError, match="version 4, this program knows 3; use the newer program"):
            opening(path, IDENTITY)
    other = path.with_name("other.db")
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(StateError, match="is no store of a partition"):
        PartitionStore(other, IDENTITY)


def test_another_frame_is_refused_and_fresh_state_is_the_way_out(path: Path) -> None:
    """State of another frame is not used; starting over keeps the control log, the outbox, rows and files."""
    store = PartitionStore(path, IDENTITY)
    store.checkpoint(NOTHING._replace(offset=5, alerts={"a": b"1"}, outbox=(Letter("t", None, b"x"),)))
    store.record_cut({"archive": ["region=none/day=1/x.parquet"]})
    store.close()
    with pytest.raises(StateError, match="--fresh-state"):
        PartitionStore(path, Identity("fleet", "other"))
    fresh = PartitionStore(path, Identity("fleet", "other"), fresh=True)
    assert (fresh.offset(), [*fresh.state()], fresh.alerts(), fresh.identity.frame) == (None, [], {}, "other")
    assert len(fresh.pending()) == 1
    assert fresh.files() == {"archive": ["region=none/day=1/x.parquet"]}
    assert [row.kind for row in fresh.control()] == ["fresh"]


def test_a_cut_drops_the_rows_it_records(path: Path) -> None:
    """Rows go in the transaction that records their file, and only those of the log that was cut."""
    store = PartitionStore(path, IDENTITY)
    store.checkpoint(NOTHING._replace(rows=(Rows("decisions", 0, 1, b"d"), Rows("archive", 0, 1, b"a"))))
    store.record_cut({"decisions": ["one", "two"]})
    assert (store.rows("decisions"), len(store.rows("archive"))) == ([], 1)
    assert store.files() == {"decisions": ["one", "two"]}


@pytest.mark.parametrize(("size", "lengths"), [(1, [1, 1, 1, 1, 1]), (4, [2, 2, 1]), (6, [3, 2]), (99, [5])])
def test_rows_come_in_portions(path: Path, size: int, lengths: list[int]) -> None:
    """Every row of the log once, in order, and no portion much larger than it should be."""
    store = PartitionStore(path, IDENTITY)
    rows = [Rows("archive", first, first, bytes([first] * 2)) for first in range(5)]
    store.checkpoint(NOTHING._replace(rows=(*rows[:2], Rows("decisions", 0, 0, b"d"), *rows[2:])))
    portions = list(store.portions("archive", size))
    assert [len(portion) for portion in portions] == lengths
    assert [row for portion in portions for row in portion] == rows == store.rows("archive")
    assert list(store.portions("nothing", size)) == []


def test_a_stopped_owner_inside_a_transaction_is_waited_for(path: Path) -> None:
    """The new owner waits and says so, and has the partition when the transaction ends."""
    PartitionStore(path, IDENTITY).close()
    stuck = sqlite3.connect(path, isolation_level=None)
    stuck.execute("BEGIN IMMEDIATE")
    said: list[Path] = []

    def waiting(what: Path) -> None:
        said.append(what)
        stuck.execute("ROLLBACK")

    store = PartitionStore(path, IDENTITY, waiting=waiting)
    assert said == [path]
    assert store.epoch == 2
    stuck.close()


def test_a_full_disk_commits_nothing(path: Path) -> None:
    """A checkpoint that does not fit is refused whole; the store is as it was and can be used again."""
    store = PartitionStore(path, IDENTITY)
    store.checkpoint(NOTHING._replace(offset=1))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    try:
        with pytest.raises(DataError, match="Free some space"):
            store.checkpoint(NOTHING._replace(offset=2, deltas=(bytes(2_000_000),), outbox=(Letter("t", None, b"x"),)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert (store.offset(), [*store.state()], store.pending()) == (1, [b"delta"], [])
    store.checkpoint(NOTHING._replace(offset=3))
    assert store.offset() == 3


def test_stores_are_found_by_group(tmp_path: Path) -> None:
    """Groups have folders of their own, whatever characters are in their names."""
    for group in ("a/b", "a*", "a"):
        PartitionStore(store_path(tmp_path, group, "t", 0), IDENTITY).close()
    assert len(store_paths(tmp_path)) == 3
    assert store_paths(tmp_path, "a*") == [tmp_path / "state" / "a%2A" / "t-0.db"]
    with pytest.raises(StateError, match="is not there"):
        StoreReader(tmp_path / "none.db")


offsets = st.dictionaries(st.integers(0, 3), st.integers(0, 99), min_size=1)
positions = st.dictionaries(st.sampled_from(["e", "l"]), offsets)


@given(st.lists(positions, min_size=1))
@settings(max_examples=50, deadline=None)
def test_the_earliest_positions_miss_nothing(stored: list[dict[str, dict[int, int]]]) -> None:
    """Reading on from the earliest positions passes over no message that any partition still needs."""
    found = earliest(stored)
    for own in stored:
        for topic, numbers in found.items():
            assert all(start <= own[topic][number] for number, start in numbers.items())
