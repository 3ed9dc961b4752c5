"""Labels from a file, by the command that a person types."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomlkit
from typer.testing import CliRunner

from anomaly.cli.feedback import app
from anomaly.errors import ConfigError, DataError
from anomaly.feedback.foreign import Translation, load_translation
from anomaly.feedback.importing import Take, read
from anomaly.feedback.labels import LabelStore
from anomaly.telemetry.records import Label
from tests.engine.world import FLEET, fleet

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
    assert "line 4: from: 9 lies after to 5" in text
    assert "line 5: verdict: unknown word `broken`; one of fault, no_fault" in text
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


MAPPING = """
encoding = "cp1252"
source = "werkstatt"
days_before = 2
time_format = "%d.%m.%Y"
[columns]
vehicle = "Fahrzeug"
to = "Bis"
verdict = "Befund"
note = "Größe"
[verdicts]
Defekt = "fault"
"i.O." = "no_fault"
"""
FOREIGN = "Fahrzeug;Bis;Befund;Größe\nv1;02.01.2024;Defekt;zu groß\nv2;03.01.2024;i.O.;\n"


def test_a_mapping_reads_what_another_system_writes(tmp_path: Path) -> None:
    """Another encoding, delimiter, header, words and times; one date makes a window."""
    (tmp_path / "map.toml").write_text(MAPPING)
    (tmp_path / "w.csv").write_bytes(FOREIGN.encode("cp1252"))
    found, problems = read(tmp_path / "w.csv", fleet(), Take(load_translation(tmp_path / "map.toml")))
    day = 1_704_153_600
    assert problems == []
    assert found[0] == Label(
        vehicle="v1", start=day - 2 * 86_400, end=day, verdict="fault", source="werkstatt", note="zu groß"
    )
    assert found[1].verdict == "no_fault"


def test_a_file_in_another_encoding_names_the_way(tmp_path: Path) -> None:
    """Without a mapping, bytes that are no UTF-8 are refused with their place."""
    (tmp_path / "w.csv").write_bytes(FOREIGN.encode("cp1252"))
    with pytest.raises(DataError, match=r"byte 22 is 0xf6.*--mapping"):
        read(tmp_path / "w.csv", fleet(), Take())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("v1,5,9,fault", "line 3: has 4 of 5 columns; the file may be half written"),
        ("zz,5,9,fault,w", "line 3: vehicle: zz has sent no reading"),
        ("v1,1,9,no_fault,w", "line 3: verdict: no_fault, and fault in line 2, of the same time"),
        ("v1,x,9,fault,w", "line 3: from: `x` is no time"),
        ("v1,2.5,9,fault,w", "line 3: from: `2.5` is no time"),
        ("v1,9,5,fault,w", "line 3: from: 9 lies after to 5"),
    ],
)
def test_each_bad_row_is_named_by_its_line(row: str, said: str, tmp_path: Path) -> None:
    """Cut short, of an unknown vehicle, contradicting, or without sense: each with its reason; the rest is good."""
    (tmp_path / "w.csv").write_text(f"vehicle,from,to,verdict,source\nv1,2,8,fault,w\n{row}\nv2,2,8,fault,w\n")
    found, problems = read(tmp_path / "w.csv", fleet(), Take(vehicles={"v1", "v2"}))
    assert any(problem.startswith(said) for problem in problems), problems
    assert "v2" in {label.vehicle for label in found}


def test_a_correction_is_no_contradiction(tmp_path: Path) -> None:
    """A later report about the same window replaces the earlier one."""
    rows = "v1,2,8,fault,w,10\nv1,2,8,no_fault,w,20\n"
    (tmp_path / "w.csv").write_text(f"vehicle,from,to,verdict,source,reported_at\n{rows}")
    found, problems = read(tmp_path / "w.csv", fleet(), Take())
    assert (len(found), problems) == (2, [])


@pytest.mark.parametrize(
    "changed", [{"colums": 1}, {"columns": {"vehcle": "x"}}, {"encoding": "x-9"}, {"delimiter": ";;"}]
)
def test_a_wrong_mapping_is_refused(changed: dict[str, object], tmp_path: Path) -> None:
    """Unknown keys and fields, encodings and delimiters that are none."""
    (tmp_path / "map.toml").write_text(tomlkit.dumps(changed))
    with pytest.raises(ConfigError, match=next(iter(changed))):
        load_translation(tmp_path / "map.toml")


def test_parquet_of_another_system_is_read_with_its_own_types(tmp_path: Path) -> None:
    """Dates, whole numbers as vehicles and empty cells are what they mean."""
    table = pa.table({"vehicle": [7, 8], "to": [datetime.date(2024, 1, 2)] * 2, "verdict": ["fault", None]})
    pq.write_table(table, tmp_path / "w.parquet")
    found, problems = read(tmp_path / "w.parquet", fleet(), Take(Translation(source="w", days_before=1)))
    assert [(one.vehicle, one.end) for one in found] == [("7", 1_704_153_600)]
    assert problems == ["line 2: missing field verdict"]
