"""Vehicle events that a run was told of are kept, each once, however often it is told."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from anomaly.engine.events import Action
from anomaly.errors import DataError
from anomaly.feedback import events
from anomaly.feedback.events import EventStore, events_of
from anomaly.telemetry.records import Label, VehicleEvent, Verdict
from tests.engine.world import fleet


def event(number: int) -> VehicleEvent:
    """A service."""
    return VehicleEvent(id=f"e{number}", vehicle="v1", ts=number, kind="service")


def test_an_event_that_is_told_again_is_kept_once(tmp_path: Path) -> None:
    """What is there is not added again; a line that a crash cut short is replaced by the whole one."""
    store = EventStore(tmp_path)
    assert store.add([event(1), event(2)]) == 2
    with store.path.open("ab") as file:
        file.write(b'{"id":"e3","vehi')
    assert store.add([event(2), event(3)]) == 1
    assert store.read() == [event(1), event(2), event(3)]


def test_only_the_end_of_a_long_file_is_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding costs the same however much is there: what lies far back may come a second time, and nothing is lost."""
    monkeypatch.setattr(events, "LOOKS_BACK", 200)
    store = EventStore(tmp_path)
    store.add([event(number) for number in range(100)])
    assert store.add([event(99)]) == 0
    assert store.add([event(0), event(100)]) == 2
    assert [one.id for one in store.read()] == [*(f"e{number}" for number in range(100)), "e0", "e100"]


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    """A file that somebody spoiled is said with the line, and not taken for an empty one."""
    store = EventStore(tmp_path)
    store.add([event(1)])
    with store.path.open("ab") as file:
        file.write(b'{"id":""}\n')
    with pytest.raises(DataError, match="line 2"):
        store.read()


@pytest.mark.parametrize(
    ("verdict", "action"),
    [("fixed", Action.ACCEPT), ("normal_since", Action.ACCEPT), ("no_fault", Action.DISMISS)],
)
def test_labels_leave_the_baseline_alone_where_they_are_no_reason(verdict: Verdict, action: Action) -> None:
    """Without `no_fault` in `restart_on` a label gives no vehicle another normal; it is an answer, and no more."""
    label = Label(vehicle="v1", start=1, end=2, verdict=verdict, source="shop", reported_at=3)
    plain = fleet()
    baseline = msgspec.structs.replace(plain.baseline, restart_on=("service",))
    deaf = msgspec.structs.replace(plain, baseline=baseline)
    assert [one.action for one in events_of(plain, label)] == [action]
    assert [one.action for one in events_of(deaf, label)] == [Action.ANSWER]
