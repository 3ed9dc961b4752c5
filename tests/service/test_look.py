"""A look at an experiment, from what a run has written down; docs/tutorial.md takes two of them on a whole run."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly.errors import DataError
from anomaly.feedback.labels import LabelStore
from anomaly.service.look import known
from anomaly.telemetry.records import Label
from tests.service.child import score
from tests.service.rig import Rig


def test_what_is_known_ends_at_the_newest_reading(rig: Rig) -> None:
    """A label that is reported later than the stream has come is not used; one that was reported is."""
    assert score(rig, rig.folder / "run") == 0
    run = rig.folder / "run"
    now = known(run, rig.fleet).now
    for reported_at in (now, now + 1):
        told = Label(vehicle=f"at {reported_at}", start=0, end=1, verdict="fault", source="x", reported_at=reported_at)
        LabelStore(run / "labels").add([told])
    assert [label.vehicle for label in known(run, rig.fleet).labels] == [f"at {now}"]


def test_a_run_without_a_reading_says_so(rig: Rig, tmp_path: Path) -> None:
    """Who looks in the wrong folder is told which option to change."""
    with pytest.raises(DataError, match=r"holds no reading yet.*--dir"):
        known(tmp_path, rig.fleet)
