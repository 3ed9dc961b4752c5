"""What a person is told of an experiment, by the commands that they type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anomaly.cli.experiment import app
from anomaly.errors import ConfigError
from anomaly.experiments.controller import act, begin
from anomaly.experiments.file import load
from anomaly.experiments.state import Entry, add_entry
from tests.experiments.plan import RAMP, TEXT
from tests.experiments.test_controller import GOOD, Done, look, pin


def output(*arguments: object) -> str:
    """What the command prints."""
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False).stdout


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with one experiment file."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "colder.toml").write_text(RAMP + TEXT)
    return tmp_path


def conclude(run: Path) -> None:
    """The experiment begins, ramps up, and passes."""
    folder = run / "experiments"
    plan = load(folder / "colder.toml")
    begin(folder, plan, 0, pin)
    for days in (4, 20):
        act(folder, look(days, GOOD), plan.id, Done().effects)


def test_check_says_who_gets_what(run: Path) -> None:
    """Each step of the ramp with the share of the fleet in each arm."""
    lines = output("check", run / "experiments" / "colder.toml").splitlines()
    assert lines[1].strip() == "old (fleet/1) 5.00% of the fleet, new (fleet@challenger) 5.00% of the fleet"
    assert "50.00%" in lines[2]


def test_status_before_and_after(run: Path) -> None:
    """A line an experiment: not begun, then its step, verdict and reason."""
    assert output("status", "--dir", run) == "colder, revision 1: not begun; everybody scores with the champion\n"
    conclude(run)
    line = output("status", "colder", "--dir", run)
    assert line.startswith("colder, revision 1: promoted, step 2 of 2, 100% of the vehicles; pass: false_alarms: harm")
    (state,) = json.loads(output("status", "--dir", run, "--json"))
    assert state["state"]["status"] == "promoted"


def test_report_tells_arms_differences_and_acts(run: Path) -> None:
    """The pinned models, the figures of both arms, and every act with its time."""
    conclude(run)
    text = output("report", "colder", "--dir", run)
    assert "new (treatment): fleet/2, 50%" in text
    assert "old (control): 500 vehicles, 15000 vehicle-days" in text
    assert "false_alarms (primary): treatment" in text
    assert "promoted fleet/2" in text.splitlines()[-1]
    assert len(json.loads(output("report", "colder", "--dir", run, "--json"))["audit"]) == 4


def test_an_unknown_experiment_is_refused_with_those_that_are_there(run: Path) -> None:
    """A person who mistyped the id reads the right one."""
    with pytest.raises(ConfigError, match=r"colde\.toml is not there; experiments in this folder: colder"):
        output("report", "colde", "--dir", run)


def test_times_are_words_where_the_fleet_is_known(run: Path, tmp_path: Path) -> None:
    """With the fleet file a time is a date; without it, it is the number that it is."""
    conclude(run)
    fleet = tmp_path / "fleet.toml"
    fleet.write_text('[fleet]\nname = "f"\nvehicle = "v"\ntime = "t"\ntime_unit = "s"\n[signals.a]\n')
    assert " UTC: revision 1 promoted" in output("report", "colder", "--dir", run, "--config", fleet).splitlines()[-1]
    assert " UTC" not in output("report", "colder", "--dir", run)


def test_the_page_needs_nothing_else(run: Path, tmp_path: Path) -> None:
    """Verdict, intervals, events, split, slices and acts in one file: no script, no address, names as text."""
    conclude(run)
    output("report", "colder", "--dir", run, "--html", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 4
    for word in ("promoted fleet/2", "allowed", "Exploratory", "the split is as promised", "harm between"):
        assert word in text
    assert not [word for word in ("<script", "http:", "https:", "src=", "@import") if word in text]


def test_a_name_on_the_page_is_no_markup(run: Path, tmp_path: Path) -> None:
    """A reason that a person typed cannot become a script."""
    conclude(run)
    add_entry(run / "experiments", Entry(at=9, id="colder", revision=1, act="x", reason="<script>alert(1)</script>"))
    output("report", "colder", "--dir", run, "--html", tmp_path / "report.html")
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_person_stops_it(run: Path) -> None:
    """With a reason that is on the trail; a second time there is nothing to stop."""
    begin(run / "experiments", load(run / "experiments" / "colder.toml"), 0, pin)
    assert "stopped" in output("stop", "colder", "--dir", run, "--reason", "wrong season")
    assert "wrong season" in output("report", "colder", "--dir", run)
    with pytest.raises(ConfigError, match="is over: stopped"):
        output("stop", "colder", "--dir", run, "--reason", "again")
