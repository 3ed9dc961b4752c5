"""A user's own fleet: files in, a verdict out, and what is wrong is said."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from anomaly.cli.main import main
from anomaly.errors import DataError, UsageError
from tests.training.suites.wearing import TEXT, table, write
from training.report import html
from training.suites.choose import Asked, judge
from training.suites.own import Files, Past, divide, own_split, read
from training.suites.slices import slices
from training.suites.tally import Costs
from training.suites.verdict import Verdict

CALENDAR = TEXT.replace('"cycles"', '"s"').replace("run_to_failure = true", "")


def test_a_fleet_file_is_judged_as_a_user_types_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command, here with one split: the verdict on stdout, and a report without script or network."""
    monkeypatch.setattr("training.suites.own.SPLITS", range(1))
    config, data = write(tmp_path, rows=table(vehicles=15, life=100))
    told = ["evaluate", str(config), "--data", str(data), "--report", str(tmp_path / "r.html"), "--json"]
    monkeypatch.setattr("sys.argv", ["anomaly", *told])
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    (verdict,) = msgspec.json.decode(out, type=list[Verdict])
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert ended.value.code in {0, 1}
    assert (verdict.splits, verdict.rows[0].row) == (1, "product")
    assert {row.budget for row in verdict.rows} == {1.0, 5.0, 20.0}
    assert "http" not in page
    assert "<script" not in page
    assert page.count("<svg") >= 2


def test_names_from_data_are_text_in_the_report(tmp_path: Path) -> None:
    """A vehicle that is called like markup cannot become any."""
    config, data = write(tmp_path)
    measured = own_split(Files(config, data, None, None), 0, Costs())
    timeline = msgspec.structs.replace(measured.timelines[0], vehicle="<script>alert(1)</script>")
    verdict = Verdict(
        suite="<b>",
        about="",
        unit="cycles",
        budget=1.0,
        splits=1,
        rows=[],
        differences=[],
        claims=[],
        timelines=[timeline],
    )
    assert "<script" not in html([verdict])
    assert "&lt;script&gt;" in html([verdict])


def test_with_a_common_clock_no_test_reading_is_from_the_time_of_training(tmp_path: Path) -> None:
    """Training ends before the first test reading, and no vehicle is in both."""
    rows = table(life=100)
    days = rows.set_column(1, "t", [np.asarray(rows["t"]) * 86_400])
    config, data = write(tmp_path, CALENDAR, days)
    made = divide(read(Files(config, data, None, None)), 0)
    assert made.past.batch.ts.max() < made.test.batch.ts.min()
    assert not set(made.past.batch.vehicles) & set(made.test.batch.vehicles)
    assert any(part.name.startswith("season") for part in slices(made, []))


def test_too_few_vehicles_are_refused_with_what_is_needed(tmp_path: Path) -> None:
    """A split needs five vehicles; a fleet of one says so instead of a table of nothing."""
    config, data = write(tmp_path, rows=table(vehicles=1))
    with pytest.raises(DataError, match="at least 5 vehicles"):
        own_split(Files(config, data, None, None), 0, Costs())


def test_labels_of_vehicles_that_are_not_there_are_said(tmp_path: Path) -> None:
    """Such a label is not used, and the note names the vehicle."""
    config, data = write(tmp_path)
    (tmp_path / "l.csv").write_text("vehicle,from,to,verdict,source\nghost,1,9,fault,shop\n", encoding="utf-8")
    past: Past = read(Files(config, data, None, tmp_path / "l.csv"))
    assert [label.vehicle for label in past.labels] == ["ghost"]
    assert any("ghost" in note for note in divide(past, 0).past.notes)


def test_what_is_no_suite_is_refused_with_those_that_are() -> None:
    """A misspelt suite names the known ones; a suite without its data says what is missing."""
    with pytest.raises(UsageError, match="turbofan-drift"):
        judge(Asked("turbofam"), Costs(), print)
    with pytest.raises(UsageError, match="--data"):
        judge(Asked("turbofan"), Costs(), print)
