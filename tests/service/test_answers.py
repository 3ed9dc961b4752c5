"""A person's answer to an alert: what it writes, whom it tells, what it changes, and how it is taken back."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from anomaly.cli.feedback import app
from anomaly.errors import DataError
from anomaly.feedback.labels import LabelStore, label_id
from anomaly.service.answers import Found, find_alert
from anomaly.service.effect import effect
from anomaly.service.outcomes import newest, update_outcomes
from anomaly.stream.ports import Record
from anomaly.telemetry.records import Label, VehicleEvent
from tests.service.conftest import score_all
from tests.service.rig import Rig, readings

WHO = ("v0", "v1")
"""One of those that drift, and one that does not."""


def first_alert(rig: Rig) -> Found:
    """The first fault of the run."""
    rows = update_outcomes(rig.folder / "run", rig.fleet).episodes.to_pylist()
    return find_alert(rig.folder / "run", next(row["episode"] for row in rows if row["kind"] == "fault"))


def typed(rig: Rig, *arguments: str) -> dict[str, object]:
    """Call the command; its JSON."""
    where = ["--config", str(rig.folder / "fleet.toml"), "--dir", str(rig.folder / "run"), "--json"]
    result = CliRunner().invoke(app, [*arguments, *where], catch_exceptions=False)
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


def test_an_answer_is_kept_and_told(scored: Rig) -> None:
    """The label has the alert's window and the run's time, in the store and on the topic alike."""
    alert = first_alert(scored)
    said = typed(scored, "answer", alert.episode[:8], "fault", "--code", "P0128", "--log", str(scored.log_path))
    (label,) = LabelStore(scored.folder / "run/labels").read()
    assert (label.vehicle, label.start, label.end) == (alert.vehicle, alert.start, alert.end)
    assert (label.alert, label.code, label.reported_at) == (alert.episode, "P0128", newest(scored.folder / "run"))
    assert [msgspec.json.decode(value, type=Label) for _, _, value in scored.messages("labels")] == [label]
    assert said["told"] is True
    assert {row["state"] for row in update_outcomes(scored.folder / "run", scored.fleet).episodes.to_pylist()} == {
        "confirmed",
        "immature",
    }


def test_a_second_answer_replaces_the_first_and_both_are_kept(scored: Rig) -> None:
    """One person has one opinion of an alert; what was said before can still be asked."""
    alert = first_alert(scored)
    at = newest(scored.folder / "run")
    ids = [typed(scored, "answer", alert.episode, word, "--at", str(at))["label"] for word in ("fault", "no_fault")]
    assert ids[0] == ids[1]
    assert [label.verdict for label in LabelStore(scored.folder / "run/labels").read()] == ["fault", "no_fault"]
    states = {
        row["episode"]: row["state"]
        for row in update_outcomes(scored.folder / "run", scored.fleet).episodes.to_pylist()
    }
    assert states[alert.episode] == "false_alarm"


def test_an_undo_says_what_was_before_and_takes_back_the_restart(scored: Rig) -> None:
    """The correction is `unknown`, and an event on its topic names what the label did to the baseline."""
    alert = first_alert(scored)
    typed(scored, "answer", alert.episode, "no_fault", "--log", str(scored.log_path))
    events = len(scored.messages("vehicle-events"))
    before = update_outcomes(scored.folder / "run", scored.fleet).episodes.to_pylist()
    assert typed(scored, "undo", alert.episode, "--log", str(scored.log_path))["verdict"] == "unknown"
    (event,) = [
        msgspec.json.decode(value, type=VehicleEvent) for _, _, value in scored.messages("vehicle-events")[events:]
    ]
    assert (event.kind, event.undoes) == ("undo", f"no_fault:{alert.vehicle}:{alert.start}:answer")
    after = update_outcomes(scored.folder / "run", scored.fleet).episodes.to_pylist()
    assert before != after
    assert {row["state"] for row in after} == {"immature"}


def test_the_effect_is_shown_and_gone_after_an_undo(scored: Rig) -> None:
    """With no false alarm allowed, "no fault" moves the line above the alert; taken back, it is where it was."""
    alert = first_alert(scored)
    typed(scored, "answer", alert.episode, "no_fault")
    shown = effect(scored.folder / "run", scored.fleet, alert.episode)
    assert shown.baseline == "waits"
    assert shown.fleet_before == pytest.approx(alert.threshold)
    assert shown.fleet_after == pytest.approx(alert.threshold * alert.level, rel=1e-4)
    assert shown.own_before is not None
    assert (shown.last >= shown.removed >= 1, shown.confirmed) == (True, 0)
    typed(scored, "undo", alert.episode)
    undone = effect(scored.folder / "run", scored.fleet, alert.episode)
    assert (undone.fleet_after, undone.removed, undone.baseline) == (undone.fleet_before, 0, "stays")


def test_no_fault_moves_what_is_in_alarm_and_leaves_what_is_not(rig: Rig) -> None:
    """Once a scorer heard of it, the effect says which: the vehicle that drifts, or one that is as it always was."""
    at = int(readings().ts[12 * 42])
    labels = [Label(vehicle=who, start=at, end=at, verdict="no_fault", source="shop", reported_at=at) for who in WHO]
    rig.send("labels", [Record(label.vehicle.encode(), msgspec.json.encode(label)) for label in labels])
    score_all(rig)
    found = [effect(rig.folder / "run", rig.fleet, label_id(label)).baseline for label in labels]
    assert found == ["moved", "stays"]


def test_an_unknown_alert_or_label_is_said(scored: Rig) -> None:
    """The message says where alerts and labels are listed."""
    with pytest.raises(DataError, match="logged no alert abcdef"):
        find_alert(scored.folder / "run", "abcdef")
    with pytest.raises(DataError, match="has no label abcdef"):
        effect(scored.folder / "run", scored.fleet, "abcdef")


def test_queue_and_recall_can_be_asked(scored: Rig) -> None:
    """Unanswered alerts are in the queue with their reason; recall without a fault says nothing."""
    alert = first_alert(scored)
    tasks = typed(scored, "queue")
    assert alert.episode in {task["alert"] for task in tasks}  # type: ignore[attr-defined]
    typed(scored, "answer", alert.episode, "no_fault")
    assert alert.episode not in {task["alert"] for task in typed(scored, "queue")}  # type: ignore[attr-defined]
    assert typed(scored, "recall")["detected"] == 0


def test_labels_of_vehicles_that_the_run_never_saw_are_refused(scored: Rig, tmp_path: Path) -> None:
    """A mistyped vehicle is named before it is taken."""
    (tmp_path / "w.csv").write_text("vehicle,from,to,verdict,source\nv1,1,2,fault,w\nv01,1,2,fault,w\n")
    with pytest.raises(DataError, match="line 3: vehicle: v01 has sent no reading"):
        typed(scored, "import", str(tmp_path / "w.csv"))


def test_labels_of_the_topic_are_in_the_run(scored: Rig) -> None:
    """A label that came as a message is among the run's, once, also when a command wrote the same one."""
    alert = first_alert(scored)
    typed(scored, "answer", alert.episode, "fault", "--log", str(scored.log_path))
    other = Label(vehicle="v1", start=1, end=2, verdict="fault", source="dealer", reported_at=3)
    scored.send("labels", [Record(b"v1", msgspec.json.encode(other)), Record(b"v1", b"{")])
    score_all(scored)
    labels = LabelStore(scored.folder / "run/labels").read()
    assert [label.source for label in labels] == ["answer", "dealer"]
