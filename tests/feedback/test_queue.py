"""The technicians' queue: what costs most to leave comes first."""

from __future__ import annotations

from typing import Any

from anomaly.feedback.queue import alert_tasks, audit_tasks, chances, ordered


def episode(name: str, state: str, level: float = 1.2, kind: str = "fault") -> dict[str, Any]:
    """A row of outcomes."""
    return {"episode": name, "vehicle": f"v{name}", "state": state, "level": level, "kind": kind, "start": 7}


PAST = [episode("a", "confirmed", 3.5), episode("b", "confirmed", 3.1), *[episode(n, "false_alarm") for n in "cdefgh"]]


def test_the_chance_of_a_fault_is_that_of_answered_alerts_of_its_severity() -> None:
    """Answers count by severity, with one of each added; without any it is one half."""
    assert chances(PAST) == [1 / 8, 1 / 2, 1 / 2, 3 / 4]


def test_alerts_come_by_expected_cost_and_answered_ones_not_at_all() -> None:
    """The severe one before the mild one; sensor faults, judged and answered alerts are left out."""
    alerts = [
        *PAST,
        episode("mild", "immature"),
        episode("severe", "unlabelled", 3.2),
        episode("sensor", "immature", 9.0, "sensor"),
        episode("answered", "immature", 9.0),
    ]
    tasks = ordered(alert_tasks(alerts, frozenset({"answered"})))
    assert [task.alert for task in tasks] == ["severe", "mild"]
    assert tasks[0].expected_cost == 0.75 * 500 - 0.25 * 10


def test_audit_picks_stand_between_by_their_own_chance() -> None:
    """A drawn vehicle is worth what a missed fault costs times its chance."""
    (task,) = audit_tasks([("v", 5, 0.01)], 0.1)
    assert (task.reason, task.expected_cost, task.vehicle) == ("audit", 0.1 * 500 - 0.9 * 10, "v")
