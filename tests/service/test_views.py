"""A run asked in SQL: the views are there, the documented questions are answered, and nothing else can be done."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from anomaly.cli.sql import sql
from anomaly.errors import UsageError
from anomaly.feedback.labels import LabelStore
from anomaly.service.rows import read_archive, read_decisions
from anomaly.service.views import VIEWS, Place, ask
from anomaly.telemetry.records import Label
from tests.service.rig import Rig

DOCS = Path(__file__).resolve().parents[2] / "docs/how-to/sql.md"
QUESTIONS = re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def place(scored: Rig) -> Place:
    """A run of the small fleet, with two labels."""
    LabelStore(scored.folder / "run/labels").add(
        [
            Label(vehicle="v0", start=1_700_001_800, end=1_700_003_540, verdict="fault", source="w", code="P1"),
            Label(vehicle="v1", start=1_700_000_000, end=1_700_000_100, verdict="no_fault", source="w"),
        ]
    )
    return Place(scored.folder / "run", scored.fleet, scored.registry)


def test_ten_questions_are_answered(place: Place) -> None:
    """Every query of the page runs as it stands, and several of them find something in this small run."""
    answers = [ask(place, question) for question in QUESTIONS]
    assert len(answers) == 10
    assert sum(bool(answer.rows) for answer in answers) >= 6


def test_views_hold_all_rows_of_files_and_stores(place: Place) -> None:
    """What was cut into files and what is still in a store are there once."""
    run, fleet = place.run, place.fleet
    for view, table in (("decisions", read_decisions(run)), ("readings", read_archive(run, fleet))):
        assert ask(place, f'select count(*), count(distinct (partition, "offset")) from {view}').rows[0] == (
            len(table),
            len(table),
        )


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_described_and_can_be_read(view: str, place: Place) -> None:
    """No view is broken, with rows or without."""
    assert ask(place, f"describe {view}").rows
    assert ask(place, f"select count(*) from {view}").rows[0][0] >= 0


@pytest.mark.parametrize(
    "query",
    [
        "select 1; select 2",
        "copy alerts to 'x.csv'",
        "create table x as select 1",
        "set memory_limit = '10GB'",
        "attach 'x.db'",
        "select * from read_csv('{secret}')",
        "select * from read_text('{secret}')",
        "select * from '{secret}'",
        "select * from glob('{folder}/*')",
        "select * from place",
        "selec",
    ],
)
def test_nothing_else_can_be_done(query: str, place: Place, tmp_path: Path) -> None:
    """No file is read or written, no setting changed, no Python value seen; the message names the way."""
    secret = tmp_path / "secret.csv"
    secret.write_text("a\nhidden\n")
    with pytest.raises(UsageError, match=r"write `select|views: decisions"):
        ask(place, query.format(secret=secret, folder=tmp_path))
    assert not list(tmp_path.glob("x.*"))


def test_the_command_prints_a_table_or_json(place: Place, scored: Rig) -> None:
    """Columns stand under their names; --json is a list of objects."""
    where = [
        "--config",
        str(scored.folder / "fleet.toml"),
        "--dir",
        str(place.run),
        "--models",
        str(place.registry.folder),
    ]
    query = "select vehicle, verdict from labels order by vehicle"
    app = typer.Typer()
    app.command()(sql)
    runner = CliRunner()
    text = runner.invoke(app, [query, *where])
    assert text.stdout.splitlines() == ["vehicle  verdict", "v0       fault", "v1       no_fault"]
    found = json.loads(runner.invoke(app, [query, *where, "--json"]).stdout)
    assert found[0] == {"vehicle": "v0", "verdict": "fault"}
