"""Files of the logs are made fewer and let go, and whoever reads the logs sees nothing of it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from anomaly.errors import DataError
from anomaly.feedback.archive import finished_files, write_cut
from anomaly.fleet import Fleet
from anomaly.service import upkeep
from anomaly.service.rows import drop_unrecorded, read_archive, read_decisions
from anomaly.service.store import LostPartition, PartitionStore
from anomaly.service.stored import Identity, store_path
from anomaly.service.upkeep import Upkeep, expired
from tests.service.rig import FLEET, Rig, make_rig, readings

OWNER = "g~bus.telemetry-0"


@pytest.fixture
def cut_often(tmp_path: Path, stock: Path) -> tuple[Rig, PartitionStore]:
    """A store that records 20 cuts of readings over two regions of one day."""
    from anomaly.feedback.archive import reading_table

    rig = make_rig(tmp_path, stock)
    store = PartitionStore(store_path(tmp_path, "g", "bus.telemetry", 0), Identity("", ""))
    batch = readings()
    for number in range(20):
        table = reading_table(batch.rows(36 * number, 36 * number + 36), rig.fleet, 0)
        name = f"{OWNER}@{36 * number}-{36 * number + 35}-1"
        store.record_cut({"archive": write_cut(table, tmp_path / "archive", rig.fleet, name)})
    return rig, store


def keep(store: PartitionStore, rig: Rig, turns: int = 12) -> Upkeep:
    """Turn often enough for everything to be done."""
    work = Upkeep(rig.folder, rig.fleet)
    for _ in range(turns):
        work.turn(store)
        work.wait()
    return work


def test_small_files_become_few_and_hold_the_same_rows(cut_often: tuple[Rig, PartitionStore]) -> None:
    """Forty files of two regions become six or fewer; each row is there once."""
    rig, store = cut_often
    before = read_archive(rig.folder, rig.fleet).sort_by("offset").to_pylist()
    assert len(finished_files(rig.folder / "archive")) == 40
    keep(store, rig)
    assert sorted(store.files()["archive"]) == finished_files(rig.folder / "archive")
    assert len(store.files()["archive"]) <= 14
    assert read_archive(rig.folder, rig.fleet).sort_by("offset").to_pylist() == before
    assert upkeep.crowds(store.files(), rig.folder) == []


def test_who_reads_while_files_are_made_one_finds_them(cut_often: tuple[Rig, PartitionStore]) -> None:
    """Files that a reader has in its list are still there after the turn that replaced them."""
    rig, store = cut_often
    seen = store.files()["archive"]
    work = keep(store, rig, turns=2)
    assert set(store.files()["archive"]) != set(seen)
    assert all((rig.folder / "archive" / path).exists() for path in seen)
    work.turn(store)
    assert not all((rig.folder / "archive" / path).exists() for path in seen)


def test_a_crash_after_a_merge_leaves_all_rows_once(cut_often: tuple[Rig, PartitionStore]) -> None:
    """A merged file that was not recorded does not count, and is gone after the next start."""
    rig, store = cut_often
    count = len(read_archive(rig.folder, rig.fleet))
    work = Upkeep(rig.folder, rig.fleet)
    work.turn(store)
    work.wait()
    assert len(finished_files(rig.folder / "archive")) == 42
    assert len(read_archive(rig.folder, rig.fleet)) == count
    drop_unrecorded(rig.folder, OWNER, store)
    assert len(finished_files(rig.folder / "archive")) == 40


def test_a_former_owner_replaces_nothing(cut_often: tuple[Rig, PartitionStore]) -> None:
    """Once another process has the partition, what was merged is not recorded."""
    rig, store = cut_often
    work = Upkeep(rig.folder, rig.fleet)
    work.turn(store)
    work.wait()
    other = PartitionStore(store.path, Identity("", ""))
    with pytest.raises(LostPartition):
        work.turn(store)
    assert len(other.files()["archive"]) == 40


def test_a_file_that_is_gone_is_said(cut_often: tuple[Rig, PartitionStore]) -> None:
    """Rows are not dropped in silence because somebody deleted a file."""
    rig, store = cut_often
    (rig.folder / "archive" / store.files()["archive"][0]).unlink()
    with pytest.raises(DataError, match="recorded and cannot be read"):
        keep(store, rig)


def kept(**changes: float) -> Fleet:
    """The fleet of the rig with a retention."""
    from anomaly import settings

    fleet = settings.parse(FLEET, Fleet, "fleet.toml")
    return msgspec.structs.replace(fleet, log=msgspec.structs.replace(fleet.log, **changes))


FILES = {
    "decisions": [f"region=none/day=2024-01-0{day}/{OWNER}@{day * 10}-{day * 10 + 9}-1.parquet" for day in range(1, 6)],
    "archive": [f"region=none/day=2024-01-0{day}/{OWNER}@{day * 10}-{day * 10 + 9}-1.parquet" for day in range(1, 6)]
    + [f"region=none/day=2031-01-01/{OWNER}@60-69-1.parquet"],
}


def test_days_before_the_retention_go_and_a_wild_clock_empties_nothing(tmp_path: Path) -> None:
    """Of five days two are kept back from the newest with a decision; a reading of 2031 does not count as newest."""
    found = expired(FILES, tmp_path, kept(keep_days=2))
    assert {name: [path[16:26] for path in paths] for name, paths in found.items()} == {
        name: ["2024-01-01", "2024-01-02"] for name in ("decisions", "archive")
    }
    assert expired(FILES, tmp_path, kept()) == {}


def test_beyond_the_size_the_oldest_go_first(tmp_path: Path) -> None:
    """Each partition, and each log that has files, has an even share; the newest file always stays."""
    for path in FILES["decisions"]:
        (tmp_path / "decisions" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "decisions" / path).write_bytes(bytes(1_000))
    files = {"decisions": FILES["decisions"]}
    found = expired(files, tmp_path, kept(keep_gb=2 * 2_500 / 1e9))
    assert found == {"decisions": FILES["decisions"][:3]}
    assert len(expired(files, tmp_path, kept(keep_gb=1e-9))["decisions"]) == 4
    assert len(expired(files | {"archive": []}, tmp_path, kept(keep_gb=2 * 2_500 / 1e9))["decisions"]) == 3


def test_a_run_that_compacts_says_the_same(rig: Rig, scored_once: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every two small files made one, decisions and readings of a scored log are those of another run."""
    from tests.service.conftest import score_all

    monkeypatch.setattr(upkeep, "TOGETHER", 2)
    often = msgspec.structs.replace(rig.fleet.log, cut_every_mb=0.0001)
    stream = msgspec.structs.replace(rig.fleet.stream, checkpoint_every_readings=20, batch=20)
    score_all(rig._replace(fleet=msgspec.structs.replace(rig.fleet, log=often, stream=stream)))
    for read in (read_decisions, lambda folder: read_archive(folder, rig.fleet)):
        order = [("partition", "ascending"), ("offset", "ascending")]
        one, other = (read(each.folder / "run").sort_by(order).to_pylist() for each in (rig, scored_once))
        assert one == other
    assert any(re.search(r"c\d+\.parquet$", path) for path in finished_files(rig.folder / "run/archive"))
