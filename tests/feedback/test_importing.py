"""Labels from a file, by the command that a person types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anomaly.cli.feedback import app
from anomaly.errors import DataError
from anomaly.feedback.labels import LabelStore
from tests.engine.world import FLEET

GOOD = "vehicle,from,to,verdict,source,reported_at\nv1,10,20,fault,workshop,30\nv2,1,2,no_fault,workshop,\n"
BAD = GOOD + "v3,9,5,fault,workshop,\nv4,1,2,broken,workshop,\n"


def run(folder: Path, content: str, *options: str) -> object:
    """Write the file and the fleet file, and call the command."""
    (folder / "labels.csv").write_text(content)
    (folder / "fleet.toml").write_text(FLEET)
    arguments = ["import", str(folder / "labels.csv"), "--config", str(folder / "fleet.toml")]
    return CliRunner().invoke(app, [*arguments, "--dir", str(folder), *options], catch_exceptions=False)


def test_a_good_file_is_taken_once(tmp_path: Path) -> None:
    """All rows are added; the same file again adds none."""
    assert "2 labels added, 0 known already, 0 refused" in run(tmp_path, GOOD).output
    assert "0 labels added, 2 known already" in run(tmp_path, GOOD).output
    labels = LabelStore(tmp_path / "labels").read()
    assert [(one.vehicle, one.verdict, one.reported_at) for one in labels] == [
        ("v1", "fault", 30),
        ("v2", "no_fault", None),
    ]


def test_a_bad_row_refuses_the_whole_file_and_says_each(tmp_path: Path) -> None:
    """Nothing is taken, every bad row is named with its reason, and the way on."""
    with pytest.raises(DataError) as refused:
        run(tmp_path, BAD)
    text = str(refused.value)
    assert "line 3: from: 9 lies after to 5" in text
    assert "line 4: verdict" in text
    assert "--partial takes the 2 good rows" in text
    assert LabelStore(tmp_path / "labels").read() == []


def test_partial_takes_the_good_rows(tmp_path: Path) -> None:
    """The good rows are taken, the others counted."""
    result = run(tmp_path, BAD, "--partial", "--json")
    assert json.loads(result.stdout)["added"] == 2
    assert len(json.loads(result.stdout)["refused"]) == 2
    assert len(LabelStore(tmp_path / "labels").read()) == 2


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    """It says what would be done."""
    assert "2 labels would be added, 0 known already, 2 refused" in run(tmp_path, BAD, "--dry-run").output
    assert not (tmp_path / "labels").exists()
