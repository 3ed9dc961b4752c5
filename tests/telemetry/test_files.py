"""Tests of files: what is in them comes out whole, what is odd is said, what cannot be read is refused by name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from anomaly import settings
from anomaly.errors import DataError
from anomaly.fleet import Fleet
from anomaly.telemetry.files import inspect_history, read_events, read_history, read_labels


def fleet_of(time_unit: str = "ms", **context: Any) -> Fleet:
    """A fleet with two signals and one regime signal."""
    table = {"name": "buses", "vehicle": "bus", "time": "at", "time_unit": time_unit}
    signals: dict[str, Any] = {"a": {}, "b": {}}
    return msgspec.convert({"fleet": table, "signals": signals, "context": context}, Fleet)


FLEET = fleet_of()
GOOD: dict[str, Any] = {"bus": [2, 1, 2], "at": [30, 10, 20], "a": [3.0, 1.0, 2.0], "b": [6, 4, None]}


def write(path: Path, columns: dict[str, Any]) -> Path:
    """Columns as a file of the kind that the path names."""
    table = pa.table(columns)
    if path.suffix == ".csv":
        table.to_pandas().to_csv(path, index=False)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, path)
    else:
        pyarrow.parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("name", ["h.parquet", "h.csv", "h.feather"])
def test_a_history_is_read_in_order_of_time(tmp_path: Path, name: str) -> None:
    """Every format gives the same batch: ids as text, float32 with NaN for gaps, rows in order of time."""
    batch = read_history(write(tmp_path / name, GOOD), FLEET)
    assert list(batch.vehicles) == ["1", "2", "2"]
    assert batch.ts.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(batch.values, np.array([[1, 4], [2, np.nan], [3, 6]], np.float32))
    assert batch.values.dtype == np.float32
    assert batch.offsets.tolist() == [0, 1, 2]
    assert batch.context == {"region": [None, None, None]}


def test_a_folder_is_read_as_one_history(tmp_path: Path) -> None:
    """The Parquet files of a folder, also of folders in it, are one history."""
    (tmp_path / "day=2").mkdir()
    write(tmp_path / "1.parquet", GOOD)
    write(tmp_path / "day=2" / "2.parquet", GOOD | {"at": [60, 40, 50]})
    assert read_history(tmp_path, FLEET).ts.tolist() == [10, 20, 30, 40, 50, 60]


def test_rows_of_one_time_keep_their_order(tmp_path: Path) -> None:
    """Order of time is stable: equal times stay as they are in the file."""
    path = write(tmp_path / "h.parquet", {"bus": ["c", "a", "b"], "at": [5, 5, 5], "a": [1, 2, 3], "b": [0, 0, 0]})
    assert list(read_history(path, FLEET).vehicles) == ["c", "a", "b"]


def test_only_the_vehicles_asked_for_are_read(tmp_path: Path) -> None:
    """Other vehicles are left out, and offsets count what is left."""
    batch = read_history(write(tmp_path / "h.parquet", GOOD), FLEET, {"2", "unheard of"})
    assert list(batch.vehicles) == ["2", "2"]
    assert batch.offsets.tolist() == [0, 1]


def test_ids_in_csv_stay_as_they_are_written(tmp_path: Path) -> None:
    """A vehicle `007` does not become 7."""
    path = tmp_path / "h.csv"
    path.write_text("bus,at,a,b\n007,1,1,2\n")
    assert list(read_history(path, FLEET).vehicles) == ["007"]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
        (pa.array([1.0, 12345678901.0]), ["1", "12345678901"]),
        (pa.array([7, 8], pa.uint8()), ["7", "8"]),
        (pa.array([b"x", b"y"]), ["x", "y"]),
    ],
)
def test_a_vehicle_may_be_of_any_type(tmp_path: Path, column: Any, expected: list[str]) -> None:
    """Ids of any type are read as text."""
    path = write(tmp_path / "h.parquet", {"bus": column, "at": [1, 2], "a": [0, 0], "b": [0, 0]})
    assert list(read_history(path, FLEET).vehicles) == expected


MOMENT = dt.datetime.fromisoformat("2026-01-01T12:00")


@pytest.mark.parametrize(
    ("column", "unit", "expected", "noted"),
    [
        (pa.array([MOMENT], pa.timestamp("us")), "ms", 1767268800000, True),
        (pa.array([MOMENT], pa.timestamp("ns", "UTC")), "s", 1767268800, False),
        (pa.array([MOMENT], pa.timestamp("s", "Europe/Berlin")), "ms", 1767268800000, False),
        (pa.array([MOMENT.date()]), "s", 1767225600, True),
        (pa.array([5], pa.int8()), "cycles", 5, False),
        (pa.array([5.0]), "cycles", 5, False),
    ],
)
def test_times_become_ticks(tmp_path: Path, column: Any, unit: str, expected: int, noted: bool) -> None:
    """Timestamps are converted to the fleet's unit; without a zone they are UTC, and a line says so."""
    path = write(tmp_path / "h.parquet", {"bus": ["x"], "at": column, "a": [0], "b": [0]})
    batch, notes = inspect_history(path, fleet_of(unit))
    assert batch.ts.tolist() == [expected]
    assert notes == (["column `at` names no time zone: taken as UTC"] if noted else [])


def test_context_fields_come_along(tmp_path: Path) -> None:
    """Cohort fields and the region are read as text, None where there is none."""
    path = write(tmp_path / "h.parquet", GOOD | {"type": ["x", None, "y"], "region": [1, 2, 3]})
    assert read_history(path, fleet_of(cohort=["type"])).context == {
        "type": [None, "y", "x"],
        "region": ["2", "3", "1"],
    }


def test_what_is_odd_is_said_and_strict_refuses_it(tmp_path: Path) -> None:
    """Repeats, rows out of order, gaps and infinities are each a line; strict turns them into a refusal."""
    columns = {"bus": ["x"] * 4, "at": [2, 1, 2, 2], "a": [1.0, None, np.inf, 1e39], "b": [1, 2, 3, 4]}
    path = write(tmp_path / "h.parquet", columns)
    batch, notes = inspect_history(path, FLEET)
    assert len(batch) == 4
    assert notes == [
        "1 rows lie before the row above them of the same vehicle; they are read in order of time",
        "2 rows repeat a time of the same vehicle; the first of each counts",
        "missing values are skipped: a 25.0%",
        "2 values are infinite and count as missing",
    ]
    with pytest.raises(DataError, match="2 rows repeat a time"):
        inspect_history(path, FLEET, strict=True)


def test_strict_takes_a_clean_history(tmp_path: Path) -> None:
    """Nothing odd, nothing refused: rows of several vehicles in turn are in order."""
    path = write(tmp_path / "h.parquet", {"bus": ["x", "y", "x"], "at": [1, 1, 2], "a": [0] * 3, "b": [0] * 3})
    assert inspect_history(path, FLEET, strict=True).notes == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": None}, "column `a` is missing"),
        ({"at": None, "aat": [1, 2, 3]}, "column `at` is missing; did you mean `aat`?"),
        ({"a": ["hot", "b", "c"]}, "column `a` is string, not numeric"),
        ({"bus": ["x", None, "y"]}, "column `bus` names no vehicle in 1 rows, the first is row 1"),
        ({"bus": ["x", "y", ""]}, "column `bus` names no vehicle in 1 rows, the first is row 2"),
        ({"bus": ["x", "y", "z" * 201]}, "at most 200 characters"),
        ({"bus": [[1], [2], [3]]}, "cannot be taken as vehicle ids"),
        ({"at": [1, None, 2]}, "column `at` has no time in 1 rows, the first is row 1"),
        ({"at": ["x", "y", "z"]}, "column `at` is string, which is no time"),
        ({"at": [0.5, 1, 2]}, "no whole numbers"),
        ({"at": [2**62 + 1, 1, 2]}, "beyond 2**62"),
        ({"at": [-(2**63), 1, 2]}, "beyond 2**62"),
        ({"at": pa.array([2**63, 1, 2], pa.uint64())}, "no whole numbers"),
        ({name: [] for name in GOOD}, "is empty: it holds no row"),
    ],
)
def test_a_history_that_cannot_be_used_is_refused_by_name(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """The refusal names the file, the column and what is wrong, and leads to exit 5."""
    columns = {name: column for name, column in (GOOD | change).items() if column is not None}
    with pytest.raises(DataError) as caught:
        read_history(write(tmp_path / "h.parquet", columns), FLEET)
    assert words in str(caught.value)
    assert "h.parquet" in str(caught.value)
    assert caught.value.exit_code == 5


def test_timestamps_that_overflow_are_refused(tmp_path: Path) -> None:
    """A timestamp that has no place in the fleet's unit is refused, never wrapped around."""
    path = write(tmp_path / "h.feather", GOOD | {"at": pa.array([2**62, 1, 2], pa.timestamp("s"))})
    with pytest.raises(DataError, match="too large"):
        read_history(path, FLEET)


def test_dates_are_refused_where_time_counts_cycles(tmp_path: Path) -> None:
    """A fleet that counts cycles cannot read dates; the message says which setting to change."""
    path = write(tmp_path / "h.parquet", GOOD | {"at": [MOMENT] * 3})
    with pytest.raises(DataError, match="time_unit is `cycles`; set it to `ms`"):
        read_history(path, fleet_of("cycles"))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("h.parquet", b"no parquet at all", "cannot be read"),
        ("h.feather", b"no arrow at all", "cannot be read"),
        ("h.csv", b"bus,at\n1,2,3,4\n", "cannot be read"),
        ("h.csv", b"bus,at,a,b\n", "it holds no row"),
        ("h.parquet", b"", "it has no bytes"),
        ("h.xlsx", b"x", "a file ending in `.xlsx` is not known"),
        ("h.parquet", None, "is not there"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, data: bytes | None, words: str) -> None:
    """Broken, empty, missing and foreign files are refused by name."""
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=words):
        read_history(tmp_path / name, FLEET)


def test_a_folder_without_parquet_is_refused(tmp_path: Path) -> None:
    """A folder with nothing to read is refused."""
    with pytest.raises(DataError, match="is a folder without any"):
        read_history(tmp_path, FLEET)


def test_a_cohort_field_must_be_there(tmp_path: Path) -> None:
    """A cohort's column is needed; the region, which is only kept, is not."""
    with pytest.raises(DataError, match="column `type` is missing"):
        read_history(write(tmp_path / "h.parquet", GOOD), fleet_of(cohort=["type"]))


LABEL = {"vehicle": "7", "from": 1, "to": 2, "verdict": "fault", "source": "workshop"}
EVENT = {"id": "e", "vehicle": "7", "ts": 1767268800000, "kind": "service"}


def test_labels_are_the_same_from_every_format(tmp_path: Path) -> None:
    """Parquet, CSV and JSON lines of the same labels give the same records, gaps left out."""
    rows = [LABEL, LABEL | {"reported_at": 9, "code": "P1", "to": 3}]
    frame = pd.DataFrame(rows).astype({"reported_at": "Int64", "vehicle": int})
    frame.to_parquet(tmp_path / "l.parquet")
    frame.to_csv(tmp_path / "l.csv", index=False)
    (tmp_path / "l.jsonl").write_bytes(b"\n\n".join(map(msgspec.json.encode, rows)))
    first, second, third = (read_labels(tmp_path / f"l.{kind}", FLEET) for kind in ("parquet", "csv", "jsonl"))
    assert first == second == third
    assert [(label.vehicle, label.end, label.reported_at, label.code) for label in first] == [
        ("7", 2, None, None),
        ("7", 3, 9, "P1"),
    ]


def test_events_may_have_timestamps(tmp_path: Path) -> None:
    """Timestamps of events are converted to the fleet's unit like those of readings."""
    path = write(tmp_path / "e.parquet", {name: [item] for name, item in (EVENT | {"ts": MOMENT}).items()})
    assert [event.ts for event in read_events(path, FLEET)] == [EVENT["ts"]]


def test_every_bad_line_is_named_at_once(tmp_path: Path) -> None:
    """A file of records is taken whole or refused with each line that is wrong."""
    lines = [LABEL, LABEL | {"from": 5}, LABEL | {"verdict": "perhaps"}, {"vehicle": "x"}]
    path = tmp_path / "l.jsonl"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, lines)) + b"\n{")
    with pytest.raises(DataError) as caught:
        read_labels(path, FLEET)
    found = str(caught.value).splitlines()
    assert found[0] == f"{path}:"
    assert [line.split(": ")[0].strip() for line in found[1:]] == ["line 2", "line 3", "line 4", "line 5"]


def test_many_bad_lines_are_cut_short(tmp_path: Path) -> None:
    """The first twenty are shown and the rest counted."""
    path = tmp_path / "e.jsonl"
    path.write_text("{}\n" * 50)
    with pytest.raises(DataError, match="and 30 more"):
        read_events(path, FLEET)


def test_records_without_a_column_or_a_line_are_refused(tmp_path: Path) -> None:
    """A required column is missed by name, and an empty file is no answer."""
    path = write(tmp_path / "l.parquet", {name: [item] for name, item in LABEL.items() if name != "to"})
    with pytest.raises(DataError, match="column `to` is missing"):
        read_labels(path, FLEET)
    (tmp_path / "l.jsonl").write_text("\n")
    with pytest.raises(DataError, match="it holds no line"):
        read_labels(tmp_path / "l.jsonl", FLEET)
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "none.jsonl", FLEET)


def test_columns_that_are_there_are_listed_once(tmp_path: Path) -> None:
    """Of a file of another fleet, a person reads what is missing, and in one line what is there."""
    with pytest.raises(DataError) as refused:
        read_history(write(tmp_path / "h.parquet", {"xxxxx": [1], "yyyyy": [2]}), FLEET)
    said = str(refused.value)
    assert said.count("is missing") == 4
    assert said.splitlines()[-1].strip() == "columns there: xxxxx, yyyyy"


def test_an_unknown_verdict_is_said_with_those_that_are_known(tmp_path: Path) -> None:
    """Who wrote another word reads which ones may stand there."""
    path = tmp_path / "l.jsonl"
    path.write_text('{"vehicle": "1", "from": 1, "to": 2, "verdict": "broken", "source": "x"}')
    with pytest.raises(DataError, match=r"line 1: verdict: unknown 'broken'; one of fault, no_fault, fixed"):
        read_labels(path, FLEET)


def test_of_many_signals_with_gaps_the_worst_are_named(tmp_path: Path) -> None:
    """A fleet with a hundred signals fits on a line: the worst first, then how many more."""
    names = [f"s{place}" for place in range(6)]
    tables = "".join(f"[signals.{name}]\n" for name in names)
    text = f'[fleet]\nname = "f"\nvehicle = "v"\ntime = "t"\ntime_unit = "s"\n{tables}'
    columns = {name: [None] * (place + 1) + [1.0] * (9 - place) for place, name in enumerate(names)}
    path = write(tmp_path / "h.parquet", {"v": ["1"] * 10, "t": list(range(10)), **columns})
    notes = inspect_history(path, settings.parse(text, Fleet, "f")).notes
    assert notes == ["missing values are skipped: s5 60.0%, s4 50.0%, s3 40.0%, and 3 signals with fewer"]
