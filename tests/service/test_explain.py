"""A decision is explained by what led to it: shares, what was expected and of what that is made, and since when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomaly.alerts.picture import level_picture
from anomaly.errors import DataError
from anomaly.registry.store import Registry
from anomaly.service.explain import explain_vehicle
from anomaly.service.inspect import show_vehicle
from anomaly.service.replay import Run
from anomaly.service.rows import read_decisions
from tests.service.child import score
from tests.service.rig import Rig, fill, make_rig, publish, readings

START = 1_700_000_000


@pytest.fixture(scope="module")
def worn(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """A run in which every third vehicle drifts away after half an hour."""
    folder = tmp_path_factory.mktemp("worn")
    registry = Registry(folder / "models")
    registry.set_alias("bus", "champion", publish(registry), "the first")
    rig = make_rig(folder, registry.folder)
    fill(rig, readings(each=60))
    assert score(rig, folder / "run") == 0
    return rig


def run_of(rig: Rig) -> Run:
    """The rig's run."""
    return Run(rig.folder / "run", "g", rig.registry)


def test_the_last_decision_is_the_logged_one_with_its_reasons(worn: Rig) -> None:
    """Score, threshold and kind are those of the log; shares sum to 1, and what is expected is the sum of its parts."""
    found = explain_vehicle(worn.fleet, run_of(worn), "v3", at=START + 45 * 60)
    logged = read_decisions(worn.folder / "run").to_pylist()
    (row,) = (row for row in logged if (row["vehicle"], row["ts"]) == ("v3", found.ts))
    assert (found.score, found.threshold, found.kind) == (row["score"], row["threshold"], row["kind"])
    assert sum(part.share for part in found.signals) == pytest.approx(1.0, abs=1e-4)
    assert found.signals[0].name == "a"
    for part in found.signals:
        assert part.expected == pytest.approx(part.fleet + part.cohort + part.own)


def test_the_onset_is_before_the_first_alarm_and_in_the_drift(worn: Rig) -> None:
    """The score rose above what is usual for the vehicle after the drift began, and before it was an alarm."""
    found = explain_vehicle(worn.fleet, run_of(worn), "v3", at=START + 40 * 60)
    first = next(moment.ts for moment in found.past if moment.kind == "fault")
    assert found.onset is not None
    assert START + 30 * 60 <= found.onset <= first


def test_a_calm_vehicle_has_no_onset_and_one_in_burn_in_says_what_is_missing(worn: Rig) -> None:
    """Nothing is above what is usual; of six readings of burn-in two are there."""
    assert explain_vehicle(worn.fleet, run_of(worn), "v1", at=START + 20 * 60).kind == ""
    young = explain_vehicle(worn.fleet, run_of(worn), "v1", at=START + 60)
    assert (young.missing, young.warm) == (4, pytest.approx(2 / 6))


def test_a_vehicle_that_was_not_seen_is_an_error(worn: Rig) -> None:
    """Neither one that is not there, nor one before its first reading."""
    with pytest.raises(DataError, match="no reading of vehicle nobody was scored by group g"):
        explain_vehicle(worn.fleet, run_of(worn), "nobody")
    with pytest.raises(DataError, match="at or before 2023"):
        explain_vehicle(worn.fleet, run_of(worn), "v3", at=START - 60)


def test_the_picture_has_a_dot_an_alarm_and_no_text_of_others(worn: Rig, tmp_path: Path) -> None:
    """One SVG: a line, the threshold, a dot for each alarm, and words that cannot be markup."""
    found = explain_vehicle(worn.fleet, run_of(worn), "v3", at=START + 45 * 60)
    past = [(moment.ts, moment.level, moment.kind) for moment in found.past]
    drawn = level_picture("<script>", past, found.onset, ("then", "now"))
    assert drawn.count("<circle") == int(np.sum([bool(kind) for _, _, kind in past]))
    assert "<script>" not in drawn
    assert "onset" in drawn


def test_what_is_shown_of_a_vehicle_has_the_threshold_that_its_last_reading_had(worn: Rig) -> None:
    """To the little that this reading moved it, also where alarms that came to nothing raised it."""
    for vehicle, unconfirmed in (("v0", 0), ("v1", 0), ("v3", 1)):
        last, shown = (of(worn.fleet, run_of(worn), vehicle) for of in (explain_vehicle, show_vehicle))
        assert last.unconfirmed == unconfirmed
        assert shown.threshold == pytest.approx(last.threshold, rel=0.005)
