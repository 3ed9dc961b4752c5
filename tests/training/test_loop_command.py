"""`anomaly loop` says where it stands, waits for people where they decided so, and refuses what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from anomaly.errors import ConfigError, DataError, UsageError
from tests.training.aging import FLEET
from training.cli.loop import app
from training.loop.file import LoopFile, load_loop
from training.loop.machine import Facts, Store, Went


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose loop waits for a person before it trains."""
    (tmp_path / "fleet.toml").write_text(FLEET, encoding="utf-8")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "loop.toml").write_text('wait_for_person = ["retrain"]\n', encoding="utf-8")
    store = Store(tmp_path / "run" / "loop" / "loop.db")
    store.move(store.current(1_000), Went("retrain", "schedule: it is time", Facts(cause="schedule")), 2_000)
    store.close()
    return tmp_path


def call(run: Path, *arguments: str) -> str:
    """What a command prints; its error is raised."""
    options = ["--config", str(run / "fleet.toml"), "--dir", str(run / "run")]
    found = CliRunner().invoke(app, [*arguments, *options], catch_exceptions=True)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.stdout


def test_status_says_where_it_stands_and_why(run: Path) -> None:
    """The state, since when, the reason, and that a person is waited for."""
    text = call(run, "status")
    assert "cycle 1: retrain since 1970-01-01 00:33; waits for `anomaly loop approve retrain`" in text
    assert "why: schedule: it is time" in text


def test_status_is_there_for_programs(run: Path) -> None:
    """The same as JSON, with the trail."""
    found = json.loads(call(run, "status", "--json"))
    assert (found["state"], found["waits_for_person"]) == ("retrain", True)
    assert [(one["left"], one["entered"]) for one in found["trail"]] == [("watch", "retrain")]


def test_an_approval_ends_the_wait(run: Path) -> None:
    """After an approval nobody is waited for."""
    assert "cycle 1: retrain is approved" in call(run, "approve", "retrain")
    assert not json.loads(call(run, "status", "--json"))["waits_for_person"]


def test_an_unknown_state_is_refused_with_those_there_are(run: Path) -> None:
    """A misspelt state names all states."""
    with pytest.raises(UsageError, match="`promot` is no state of the loop; one of watch, retrain"):
        call(run, "approve", "promot")


def test_a_run_without_readings_is_said(run: Path) -> None:
    """The loop on a run that scored nothing says what to do."""
    with pytest.raises(DataError, match="holds no reading yet: `anomaly score`"):
        call(run, "--once")


def test_status_of_a_loop_that_never_ran_is_said(tmp_path: Path) -> None:
    """Without a store the command names the one that makes it, and makes nothing."""
    (tmp_path / "fleet.toml").write_text(FLEET, encoding="utf-8")
    with pytest.raises(DataError, match="has not run yet"):
        call(tmp_path, "status")
    assert not (tmp_path / "run").exists()


def test_looking_at_a_loop_does_not_begin_it(run: Path) -> None:
    """A store without a cycle is said; the first pass begins it at its own time, and not in 1970."""
    store = Store(run / "other" / "loop" / "loop.db")
    options = ["--config", str(run / "fleet.toml"), "--dir", str(run / "other")]
    for arguments, what in ((["status"], "has no cycle yet"), (["approve", "retrain"], "the loop has not begun")):
        found = CliRunner().invoke(app, [*arguments, *options])
        assert what in str(found.exception)
    assert store.current(5_000).since == 5_000
    store.close()


def test_the_loop_file_refuses_unknown_keys(tmp_path: Path) -> None:
    """A misspelt key and a state that does not exist are said together."""
    (tmp_path / "loop.toml").write_text('every_day = 3\nwait_for_person = ["promotion"]\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="every_days"):
        load_loop(tmp_path / "loop.toml")


def test_the_documented_loop_file_is_the_defaults(tmp_path: Path) -> None:
    """What the how-to shows as the defaults are the defaults, all of them."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "loop.md").read_text(encoding="utf-8")
    (tmp_path / "loop.toml").write_text(text.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    assert load_loop(tmp_path / "loop.toml") == LoopFile() == load_loop(tmp_path / "none.toml")
    assert all(f"\n{name} = " in f"\n{text}" for name in msgspec.structs.asdict(LoopFile()))
