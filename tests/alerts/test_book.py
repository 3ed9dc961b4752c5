"""Alerts out of episodes: one a subject and kind, the same in every replay."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.alerts.book import AlertBook, severity_of
from anomaly.engine.outcome import Applied, Change, Decisions, Episodes, Evidence, Kind, Outcome
from anomaly.errors import StateError
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Alert, alert_id
from tests.engine.world import arm, engine, fleet, stream


def told(changes: list[tuple[str, Kind, Change, int, float]], before: int = 0) -> tuple[Outcome, Batch]:
    """An outcome in which reading i changes an episode: (vehicle, kind, change, start, level); the onset is so long
    `before` the start."""
    n = len(changes)
    none = np.zeros(0)
    columns = [np.array(column) for column in zip(*[c[1:] for c in changes], strict=True)] if n else [none] * 4
    kind, change, start, level = columns
    rows = np.arange(n)
    times = rows + 100
    episodes = Episodes(
        rows, kind.astype(np.uint8), change.astype(np.uint8), start.astype(np.int64), times, times,
        level.astype(np.float32), rows + 1, np.zeros(n, np.int16), start.astype(np.int64) - before,
    )  # fmt: skip
    share = np.tile(np.float32([0.7, 0.295, 0.005]), (n, 1))
    masked = np.tile([False, True, False], (n, 1))
    evidence = Evidence(rows, share, np.full((n, 3), 2.5, np.float32), np.zeros(n, np.int16), masked)
    decisions = Decisions(*[none] * len(Decisions._fields))
    outcome = Outcome(decisions, episodes, evidence, Applied(none, [], []), np.zeros(n, np.uint8), {})
    values = np.tile(np.float32([3.1, np.nan, 1.0, 0.0]), (n, 1))
    return outcome, Batch.of([c[0] for c in changes], times, values, {}, rows)


def written(book: AlertBook, changes: list[tuple[str, Kind, Change, int, float]]) -> list[Alert]:
    """What the book writes for these changes."""
    outcome, batch = told(changes)
    return book.apply(outcome, batch, fleet(), [arm()])


ONE = st.tuples(
    st.sampled_from(["v", "w"]),
    st.sampled_from([Kind.FAULT, Kind.SENSOR]),
    st.sampled_from(list(Change)),
    st.integers(0, 4),
    st.floats(1.0, 5.0),
)


@given(changes=st.lists(ONE, max_size=40))
def test_at_most_one_alert_is_open_and_only_open_ones_close(
    changes: list[tuple[str, Kind, Change, int, float]],
) -> None:
    """Whatever the episodes: one open alert a subject and kind, and nothing updated or closed that was not opened."""
    running: dict[tuple[str, str], str] = {}
    severity: dict[str, int] = {}
    book = AlertBook()
    for alert in written(book, changes):
        place = (alert.subject["vehicle"], alert.kind)
        if alert.state == "open":
            assert place not in running
            running[place] = alert.id
        else:
            assert running[place] == alert.id
        if alert.state == "update":
            assert alert.severity > severity[alert.id]
        severity[alert.id] = alert.severity
        if alert.state == "closed":
            del running[place]
    assert sorted(running.values()) == sorted(alert.id for alert in book.open())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1_000), cuts=st.lists(st.integers(1, 399), max_size=8))
def test_alerts_do_not_depend_on_the_cut_into_batches(seed: int, cuts: list[int]) -> None:
    """The engine's own outcomes give the same bytes whole, cut, and with the book stored between."""
    batch = stream(seed, 400)
    whole = AlertBook().apply(engine().decide(batch), batch, fleet(), [arm()])
    parts: list[Alert] = []
    running, stored = engine(), dict[str, bytes]()
    edges = sorted({0, 400, *cuts})
    for start, stop in itertools.pairwise(edges):
        book = AlertBook()
        book.restore(stored.items())
        part = batch.rows(start, stop)
        parts += book.apply(running.decide(part), part, fleet(), [arm()])
        for key, value in book.changed():
            if value is None:
                stored.pop(key, None)
            else:
                stored[key] = value
    assert whole
    assert msgspec.json.encode(parts) == msgspec.json.encode(whole)


def test_shares_sum_to_one_over_the_signals_named() -> None:
    """Signals below one per cent are left out and the rest is made whole."""
    (alert,) = written(AlertBook(), [("v", Kind.FAULT, Change.OPEN, 7, 1.2)])
    assert [signal.name for signal in alert.signals] == ["a", "b"]
    assert sum(signal.share for signal in alert.signals) == pytest.approx(1.0, abs=1e-5)
    assert [signal.actual for signal in alert.signals] == [3.1, None]


def test_an_update_is_written_only_when_the_severity_rises() -> None:
    """New peaks of the same severity stay in the book; the closing alert carries the highest."""
    levels = [
        (Change.OPEN, 1.1),
        (Change.UPDATE, 1.4),
        (Change.UPDATE, 2.1),
        (Change.UPDATE, 2.9),
        (Change.CLOSED, 2.9),
    ]
    alerts = written(AlertBook(), [("v", Kind.FAULT, change, 7, level) for change, level in levels])
    assert [(alert.state, alert.severity) for alert in alerts] == [("open", 1), ("update", 3), ("closed", 3)]
    assert alerts[-1].level == 2.9
    assert alerts[-1].end == 104
    assert len({alert.id for alert in alerts}) == 1


def test_the_sentence_says_who_what_since_when_and_how_strong() -> None:
    """A person reads the vehicle, the signal with actual, expected and share, the start and the level."""
    opened, closed = written(
        AlertBook(),
        [("v", Kind.FAULT, Change.OPEN, 1_740_808_800, 1.8), ("v", Kind.FAULT, Change.CLOSED, 1_740_808_800, 1.8)],
    )
    since = "vehicle v: a 3.1, 0.6 above the expected 2.5 (70 %); b missing now, expected 2.5 (30 %) "
    assert opened.text == since + "since 2025-03-01 06:00 UTC; level 1.8"
    assert closed.text.endswith("from 2025-03-01 06:00 UTC to 1970-01-01 00:01 UTC; 2 alarms, highest level 1.8")


def test_an_open_alert_says_since_when_it_rises() -> None:
    """The onset is that of its opening, whatever comes later; where it is the start, nothing more is said."""
    outcome, batch = told(
        [("v", Kind.FAULT, Change.OPEN, 100_000, 1.2), ("v", Kind.FAULT, Change.CLOSED, 100_000, 1.2)], 7_200
    )
    opened, closed = AlertBook().apply(outcome, batch, fleet(), [arm()])
    assert opened.onset == closed.onset == 92_800
    assert opened.text.endswith("level 1.2, above what is usual for it since 1970-01-02 01:46 UTC")
    assert "usual" not in closed.text
    (plain,) = written(AlertBook(), [("v", Kind.FAULT, Change.OPEN, 100_000, 1.2)])
    assert plain.onset is None


def test_a_sensor_alert_names_the_masked_signal() -> None:
    """Not the signals that the model would blame, but those whose values were refused, and never more than 1."""
    (alert,) = written(AlertBook(), [("v", Kind.SENSOR, Change.OPEN, 7, 9.0)])
    assert [(signal.name, signal.share) for signal in alert.signals] == [("b", 1.0)]
    assert alert.severity == 1
    assert "sensor fault, unusable values of b" in alert.text


@pytest.mark.parametrize(("level", "severity"), [(1.0, 1), (1.49, 1), (1.5, 2), (2.0, 3), (3.0, 4), (99.0, 4)])
def test_severity_follows_the_documented_table(level: float, severity: int) -> None:
    """The lines are at 1.5, 2 and 3 times the threshold."""
    assert severity_of(Kind.FAULT, level) == severity


def test_the_id_depends_on_subject_kind_and_start_alone() -> None:
    """Each of the three changes the id; it never changes between versions of this program."""
    ids = {
        alert_id({"vehicle": "v"}, "fault", 7), alert_id({"vehicle": "w"}, "fault", 7),
        alert_id({"cohort": "v"}, "fault", 7), alert_id({"vehicle": "v"}, "sensor", 7),
        alert_id({"vehicle": "v"}, "fault", 8),
    }  # fmt: skip
    assert len(ids) == 5
    assert alert_id({"vehicle": "v"}, "fault", 7) == "a715fed2b456bd7f"


def test_an_unreadable_stored_alert_is_refused() -> None:
    """Bytes that are no alert are named by their id."""
    with pytest.raises(StateError, match="open alert abc"):
        AlertBook().restore([("abc", b"{}")])


def test_the_end_of_another_episode_closes_nothing() -> None:
    """An alert ends with its own episode, which its start tells."""
    changes = [("v", Kind.FAULT, Change.OPEN, 7, 1.2), ("v", Kind.FAULT, Change.CLOSED, 3, 1.2)]
    assert [alert.state for alert in written(AlertBook(), changes)] == ["open"]


def test_a_severity_never_falls() -> None:
    """A lower level after a higher one is no news."""
    levels = [(Change.OPEN, 2.5), (Change.UPDATE, 1.2)]
    alerts = written(AlertBook(), [("v", Kind.FAULT, change, 7, level) for change, level in levels])
    assert [(alert.state, alert.severity) for alert in alerts] == [("open", 3)]
