"""Parquet files by region and day: whole or not at all, and all of it back."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from anomaly.errors import DataError
from anomaly.feedback.archive import (
    cut_name,
    delete_unrecorded,
    finished_files,
    read_table,
    reading_batch,
    reading_schema,
    reading_table,
    write_cut,
    write_table,
)
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from tests.engine.world import FLEET, fleet

DAY_S = 86_400
CYCLES = FLEET.replace('"s"', '"cycles"').replace('cohort = ["type"]', "")


def readings(ts: list[int], regions: list[str | None], known: Fleet | None = None) -> Batch:
    """A reading at each time in each region, with a gap in the first signal."""
    count, width = len(ts), len((known or fleet()).columns)
    values = np.arange(count * width, dtype=np.float32).reshape(count, width)
    values[0, 0] = np.nan
    context = {"type": ["t"] * count, "region": regions}
    return Batch.of([f"v{row}" for row in range(count)], np.array(ts), values, context, np.arange(count) + 50)


def test_rows_go_to_their_region_and_day_in_order(tmp_path: Path) -> None:
    """Each region and UTC day has one file, named by the cut, with its rows in the order of arrival."""
    batch = readings([5, DAY_S + 1, 3, 4], ["eu", "eu", "eu", None])
    paths = write_cut(reading_table(batch, fleet(), 2), tmp_path, fleet(), cut_name("t-2", 50, 53, 1))
    assert sorted(paths) == [
        "region=eu/day=1970-01-01/t-2@50-53-1.parquet",
        "region=eu/day=1970-01-02/t-2@50-53-1.parquet",
        "region=none/day=1970-01-01/t-2@50-53-1.parquet",
    ]
    table = read_table(tmp_path, reading_schema(fleet()), ["region=eu/day=1970-01-01/t-2@50-53-1.parquet"])
    assert table["ts"].to_pylist() == [5, 3]
    assert table["offset"].to_pylist() == [50, 52]


def test_cycles_share_a_folder_by_the_thousand(tmp_path: Path) -> None:
    """Where there is no day, ts // 1000 takes its place."""
    known = fleet(CYCLES)
    paths = write_cut(reading_table(readings([999, 1_000], [None] * 2), known, 0), tmp_path, known, "n")
    assert sorted(paths) == ["region=none/day=0/n.parquet", "region=none/day=1/n.parquet"]


def test_what_is_written_comes_back_as_the_same_batch(tmp_path: Path) -> None:
    """Files and the rows that the stores still hold give all readings, in order of time."""
    batch = readings([30, 10, 20, 40], ["eu", None, "us", "eu"])
    first, last = batch.rows(0, 3), batch.rows(3, 4)
    write_cut(reading_table(first, fleet(), 0), tmp_path, fleet(), "a")
    table = read_table(tmp_path, reading_schema(fleet()), extra=[reading_table(last, fleet(), 0)])
    found = reading_batch(table, fleet())
    order = np.argsort(batch.ts)
    assert found.ts.tolist() == [10, 20, 30, 40]
    assert found.vehicles == [batch.vehicles[row] for row in order]
    np.testing.assert_array_equal(found.values, batch.values[order])
    assert found.context["region"] == [None, "us", "eu", "eu"]


def test_a_region_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    """Whatever the stream calls its region, files stay below the folder."""
    names = ["../../x", "..", "a/b", ".", "x" * 5_000, "ä b"]
    folder = tmp_path / "archive"
    paths = write_cut(reading_table(readings([1] * 6, list(names)), fleet(), 0), folder, fleet(), "n")
    assert len(paths) == 6
    assert all(len(Path(path).parts) == 3 for path in paths)
    assert set(tmp_path.rglob("*.parquet")) == {folder / path for path in paths}


def test_regions_that_share_a_folder_share_a_file(tmp_path: Path) -> None:
    """No row is written over by another whose region has the same folder."""
    regions = ["none", None, "", "x" * 500 + "1", "x" * 500 + "2", "EU", "eu"]
    write_cut(reading_table(readings([1] * 7, list(regions)), fleet(), 0), tmp_path, fleet(), "n")
    table = read_table(tmp_path, reading_schema(fleet()))
    assert sorted(table["region"].to_pylist(), key=str) == sorted(regions, key=str)


def test_a_wild_clock_still_has_a_folder(tmp_path: Path) -> None:
    """Times at the edge of what the stream may carry are archived as all others."""
    paths = write_cut(reading_table(readings([2**62, -(2**62)], [None] * 2), fleet(), 0), tmp_path, fleet(), "n")
    assert len(paths) == 2


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """No room: a DataError that names the file, and no file that a reader would take."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "x.parquet.aside").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"x\.parquet cannot be written: No space left"):
        write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_only_unrecorded_files_of_the_own_partition_are_deleted(tmp_path: Path) -> None:
    """What a crash left goes; recorded files, and those of other partitions, stay."""
    table = reading_table(readings([1], ["eu"]), fleet(), 1)
    (recorded,) = write_cut(table, tmp_path, fleet(), cut_name("t-1", 0, 9, 1))
    (lost,) = write_cut(table, tmp_path, fleet(), cut_name("t-1", 10, 19, 1))
    (other,) = write_cut(table, tmp_path, fleet(), cut_name("t-11", 0, 9, 1))
    aside = tmp_path / (recorded.replace("0-9-1", "20-29-1") + ".aside")
    aside.write_bytes(b"half")
    deleted = delete_unrecorded(tmp_path, "t-1", {recorded})
    assert sorted(deleted) == sorted([lost, aside.relative_to(tmp_path).as_posix()])
    assert finished_files(tmp_path) == sorted([recorded, other])


def test_an_older_file_lacks_a_column_and_is_read(tmp_path: Path) -> None:
    """A signal that was added later is null in what was written before."""
    older = reading_table(readings([1], ["eu"]), fleet(), 0).drop_columns(["c"])
    write_cut(older, tmp_path, fleet(), "a")
    assert read_table(tmp_path, reading_schema(fleet()))["c"].to_pylist() == [None]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    """Bytes that are no Parquet, and a recorded file that is gone, are refused by name."""
    (tmp_path / "x.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x\.parquet cannot be read"):
        read_table(tmp_path, reading_schema(fleet()))
    with pytest.raises(DataError, match=r"gone\.parquet cannot be read"):
        read_table(tmp_path, reading_schema(fleet()), ["gone.parquet"])


def test_nothing_written_is_an_empty_table(tmp_path: Path) -> None:
    """A folder that is not there yet has no rows, and all columns."""
    table = read_table(tmp_path / "none", reading_schema(fleet()))
    assert table.num_rows == 0
    assert table.schema == reading_schema(fleet())


def test_duckdb_reads_the_folder_as_it_is(tmp_path: Path) -> None:
    """Region and day can be asked for in SQL without any code of ours."""
    batch = readings([5, DAY_S + 1, 3], ["eu", "eu", "us"])
    write_cut(reading_table(batch, fleet(), 0), tmp_path, fleet(), "n")
    question = f"select region, day, count(*) from '{tmp_path}/**/*.parquet' group by all order by all"
    found = [(region, str(day), count) for region, day, count in duckdb.sql(question).fetchall()]
    assert found == [("eu", "1970-01-01", 1), ("eu", "1970-01-02", 1), ("us", "1970-01-01", 1)]
