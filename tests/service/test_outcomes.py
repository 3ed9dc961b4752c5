"""Outcomes that are kept up to date are those that joining everything at once gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from anomaly.errors import DataError
from anomaly.feedback.labels import LabelStore
from anomaly.fleet import Fleet
from anomaly.service.outcomes import newest, update_outcomes
from anomaly.service.rows import cut
from anomaly.service.store import PartitionStore
from anomaly.service.stored import StoreReader, store_paths
from anomaly.telemetry.records import Label
from tests.service.rig import Rig

BEGIN, END = 1_700_000_000, 1_700_003_540
VERDICTS = st.sampled_from(["fault", "no_fault", "unknown", "fixed"])
TIMES = st.integers(BEGIN, END)
LABELS = st.builds(
    lambda number, verdict, first, second, reported: Label(
        vehicle=f"v{number}", start=min(first, second), end=max(first, second), verdict=verdict, source="w",
        reported_at=reported,
    ),
    st.integers(0, 12), VERDICTS, TIMES, TIMES, st.one_of(st.none(), TIMES),
)  # fmt: skip


def quick(rig: Rig) -> Fleet:
    """The fleet where nobody waits for labels."""
    history = msgspec.structs.replace(rig.fleet.history, label_delay_days=0.0)
    return msgspec.structs.replace(rig.fleet, history=history)


def test_an_answer_that_comes_late_to_a_mature_alert_still_counts(scored: Rig) -> None:
    """A label that says nothing of when it was reported, brought in after a look, is in the next one."""
    run, fleet = scored.folder / "run", quick(scored)
    for path in store_paths(run):
        store = PartitionStore(path, StoreReader(path).identity)
        cut(store, run, fleet, f"g~{path.stem}")
        store.close()
    before = {row["vehicle"]: row for row in update_outcomes(run, fleet, END).episodes.to_pylist()}
    assert before["v6"]["state"] == "unlabelled"
    told = Label(vehicle="v6", start=before["v6"]["start"], end=END, verdict="no_fault", source="w")
    LabelStore(run / "labels").add([told])
    after = {row["vehicle"]: row["state"] for row in update_outcomes(run, fleet, END).episodes.to_pylist()}
    assert after["v6"] == "false_alarm"
    assert after["v9"] == before["v9"]["state"]


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(st.tuples(TIMES, st.lists(LABELS, max_size=6)), min_size=1, max_size=2),
    last=st.lists(LABELS, max_size=4),
)
def test_step_by_step_is_the_same_as_at_once(
    scored_once: Rig, tmp_path: Path, steps: list[tuple[int, list[Label]]], last: list[Label]
) -> None:
    """Whatever labels come in whatever order between looks, the last look is that of who looks once."""
    run = tmp_path / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(scored_once.folder / "run", run)
    fleet = quick(scored_once)
    for cutoff, labels in sorted(steps, key=lambda step: step[0]):
        LabelStore(run / "labels").add(labels)
        update_outcomes(run, fleet, cutoff)
    LabelStore(run / "labels").add(last)
    by_steps = update_outcomes(run, fleet, END)
    shutil.rmtree(run / "outcomes")
    at_once = update_outcomes(run, fleet, END)
    assert by_steps.episodes.to_pylist() == at_once.episodes.to_pylist()
    assert by_steps.faults.to_pylist() == at_once.faults.to_pylist()


def test_labels_reported_after_the_cutoff_change_nothing(scored: Rig) -> None:
    """Shuffled in before, between and after, they leave the outcomes of a moment as they were."""
    run, fleet = scored.folder / "run", scored.fleet
    known = [Label(vehicle="v0", start=BEGIN + 2_400, end=END, verdict="fault", source="w", reported_at=END - 60)]
    hidden = [
        Label(vehicle=f"v{n}", start=BEGIN, end=END, verdict=verdict, source="w", reported_at=END - 59)
        for n in range(12)
        for verdict in ("no_fault", "fault")
    ]
    LabelStore(run / "labels").add(known)
    plain = update_outcomes(run, fleet, END - 60)
    shutil.rmtree(run / "labels")
    shutil.rmtree(run / "outcomes")
    LabelStore(run / "labels").add([*hidden[:12], *known, *hidden[12:]])
    leaky = update_outcomes(run, fleet, END - 60)
    assert leaky.episodes.to_pylist() == plain.episodes.to_pylist()
    assert leaky.faults.to_pylist() == plain.faults.to_pylist()
    assert update_outcomes(run, fleet, END).episodes.to_pylist() != plain.episodes.to_pylist()


def test_every_change_of_a_state_is_written_down(scored: Rig) -> None:
    """Who said what, when, about which alert of which model and fleet file; nothing is written twice."""
    run, fleet = scored.folder / "run", scored.fleet
    first = update_outcomes(run, fleet, END)
    episode = next(row for row in first.episodes.to_pylist() if row["vehicle"] == "v3")
    LabelStore(run / "labels").add(
        [Label(vehicle="v3", start=0, end=0, verdict="no_fault", source="ann", alert=episode["episode"])]
    )
    for _ in range(2):
        update_outcomes(run, fleet, END)
    lines = [msgspec.json.decode(line) for line in (run / "outcomes/changes.jsonl").read_bytes().splitlines()]
    assert len(lines) == first.episodes.num_rows + 1
    assert (lines[-1]["alert"], lines[-1]["state"], lines[-1]["before"]) == (
        episode["episode"], "false_alarm", "immature",
    )  # fmt: skip
    assert (lines[-1]["source"], lines[-1]["at"], lines[-1]["model"]) == ("ann", END, "bus/1")


def test_a_run_without_a_reading_says_so(tmp_path: Path) -> None:
    """Who asks the wrong folder is told which option to change."""
    with pytest.raises(DataError, match=r"no reading yet.*--dir"):
        newest(tmp_path)
