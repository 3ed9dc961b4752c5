"""Labels: what was known when, and a store that only grows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.errors import DataError
from anomaly.feedback.labels import LabelStore, as_of
from anomaly.telemetry.records import Label


def label(verdict: str = "fault", reported_at: int | None = None, source: str = "workshop", start: int = 10) -> Label:
    """A label of vehicle v."""
    return Label(vehicle="v", start=start, end=20, verdict=verdict, source=source, reported_at=reported_at)


def test_what_is_reported_later_is_not_known_yet() -> None:
    """At a cutoff only reports up to it count; one without a time was known from the start."""
    labels = [label(reported_at=100), label(start=11), label(reported_at=50, start=12)]
    assert [one.start for one in as_of(labels, 50)] == [11, 12]
    assert [one.start for one in as_of(labels, 100)] == [10, 11, 12]


def test_a_correction_replaces_and_the_past_can_be_asked_again() -> None:
    """The last report of a source about a window holds from its own time on."""
    labels = [label("no_fault", 200), label("fault", 100), label("fault", 100, source="driver")]
    assert [one.verdict for one in as_of(labels, 150)] == ["fault", "fault"]
    assert {(one.source, one.verdict) for one in as_of(labels)} == {("driver", "fault"), ("workshop", "no_fault")}


TIMES = st.one_of(st.none(), st.integers(0, 9))
SOME = st.builds(label, verdict=st.sampled_from(["fault", "no_fault"]), reported_at=TIMES, start=st.integers(1, 3))


@given(labels=st.lists(SOME, max_size=12), later=st.lists(SOME, max_size=5), cutoff=st.integers(0, 9))
def test_labels_after_the_cutoff_change_nothing(labels: list[Label], later: list[Label], cutoff: int) -> None:
    """Whatever is reported after a cutoff, shuffled in anywhere, leaves what was known at it."""
    hidden = [Label(**{**_fields(one), "reported_at": cutoff + 1}) for one in later]
    assert as_of([*hidden[:2], *labels, *hidden[2:]], cutoff) == as_of(labels, cutoff)


def _fields(one: Label) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def test_the_store_gives_back_what_it_was_given_once(tmp_path: Path) -> None:
    """Labels come back in order; the same one again is not written again."""
    store = LabelStore(tmp_path / "labels")
    assert store.read() == []
    assert store.add([label(), label("no_fault", 5), label()]) == 2
    assert store.add([label("no_fault", 5), label(start=12)]) == 1
    assert LabelStore(tmp_path / "labels").read() == [label(), label("no_fault", 5), label(start=12)]


def test_a_line_cut_short_by_a_crash_does_not_count(tmp_path: Path) -> None:
    """Half a line is passed over by readers and written over by the next writer."""
    store = LabelStore(tmp_path)
    store.add([label()])
    with store.path.open("ab") as file:
        file.write(b'{"vehicle":"v","from":1')
    assert store.read() == [label()]
    assert store.add([label(start=12)]) == 1
    assert store.read() == [label(), label(start=12)]


def test_a_spoilt_line_is_refused_by_number(tmp_path: Path) -> None:
    """A whole line that is no label is not passed over in silence."""
    store = LabelStore(tmp_path)
    store.add([label()])
    store.path.write_bytes(store.path.read_bytes() + b"{}\n")
    with pytest.raises(DataError, match="line 2"):
        store.read()


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Three writers at the same time: every label is there, once."""
    code = (
        "import sys; from pathlib import Path; from anomaly.feedback.labels import LabelStore;"
        "from anomaly.telemetry.records import Label\n"
        "for i in range(30): LabelStore(Path(sys.argv[1])).add("
        "[Label(vehicle=sys.argv[2], start=i, end=i, verdict='fault', source='s')])"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path, name]) for name in "abc"]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert len(set(LabelStore(tmp_path).read())) == 90
