"""The ledger: one row a vehicle, the same day by day as at once, with labels' days known to be young."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.experiments.file import BUCKETS
from anomaly.experiments.ledger import NEVER, Ledger, read_ledger
from anomaly.experiments.metrics import COUNTS
from anomaly.experiments.state import State, Taken
from tests.experiments.plan import changed, experiment, ramped
from tests.experiments.test_state import state

DAY = 86_400


def seen(*vehicles: str, region: str = "north") -> pa.Table:
    """Vehicles that sent a reading."""
    return pa.table({"vehicle": pa.array(vehicles, pa.string()), "region": [region] * len(vehicles)})


def began(plan: object = None, *steps: tuple[float, int]) -> State:
    """An experiment with these steps: share, day."""
    import msgspec

    taken = [Taken(share=share, at=day * DAY) for share, day in steps or ((1.0, 0),)]
    return msgspec.structs.replace(state(), experiment=plan or experiment(), steps=taken)


def lived(ledger: Ledger, what: State, folder: Path, *days: list[str]) -> Ledger:
    """The ledger after more days, each with the vehicles that sent a reading."""
    for vehicles in days:
        table = seen(*vehicles)
        ledger.welcome(table)
        ledger.count(ledger.day + 1, table, ledger.entered(what, folder)[1], DAY)
    return ledger


@settings(max_examples=12, deadline=None)
@given(days=st.lists(st.sets(st.sampled_from("abcdef")), min_size=1, max_size=70), delay=st.integers(0, 60))
def test_days_are_counted_as_they_were(days: list[set[str]], delay: int) -> None:
    """However days came: each vehicle's days, and those of them that are not younger than the label delay."""
    ledger = lived(Ledger(experiment(), -1), began(), Path(), *map(sorted, days))
    place = {name: row for row, name in enumerate(ledger.names.to_pylist())}
    mature = ledger.mature_days(ledger.day - delay)
    for name, row in place.items():
        assert ledger.days[row] == sum(name in day for day in days)
        assert mature[row] == sum(name in day for day in days[: max(0, len(days) - delay)])


def test_days_before_a_vehicle_took_part_are_its_pre_period(tmp_path: Path) -> None:
    """Each vehicle counts from the step that it entered at; before that it tells what it was like."""
    fleet = [f"v{number}" for number in range(400)]
    what = began(ramped(), (0.1, 2), (1.0, 4))
    ledger = lived(Ledger(ramped(), -1), what, tmp_path, *[fleet] * 6)
    arm, since = ledger.entered(what, tmp_path)
    assert (arm >= 0).all()
    early = since == 2 * DAY
    assert 0.04 < early.mean() < 0.2
    assert set(ledger.days[early]) == {4}
    assert set(ledger.pre_days[early]) == {2}
    assert set(ledger.days[~early]) == {2}
    assert set(ledger.pre_days[~early]) == {4}


def test_who_takes_no_part_is_never_in(tmp_path: Path) -> None:
    """The holdout and the rest of the layer are in no arm."""
    plan = changed(holdout_share=0.2)
    ledger = lived(Ledger(plan, -1), began(plan), tmp_path, [f"v{number}" for number in range(2_000)])
    arm, since = ledger.entered(began(plan), tmp_path)
    assert (arm < 0).mean() == pytest.approx(0.2, abs=0.03)
    assert (since[arm < 0] == NEVER).all()
    assert (ledger.own[arm < 0] >= 0.8 * BUCKETS).all()


def test_it_goes_on_from_its_file(tmp_path: Path) -> None:
    """Written, read and continued is the same as never stopped; another revision begins anew, a spoilt file too."""
    path = tmp_path / "colder.vehicles.parquet"
    lived(Ledger(experiment(), -1), began(), tmp_path, ["a", "b"], ["b"]).write(path)
    back = read_ledger(path, experiment())
    assert back is not None
    lived(back, began(), tmp_path, ["a", "c"])
    whole = lived(Ledger(experiment(), -1), began(), tmp_path, ["a", "b"], ["b"], ["a", "c"])
    assert back.names.to_pylist() == whole.names.to_pylist() == ["a", "b", "c"]
    for name in ("layer", "own", "days", "pre_days", "recent"):
        assert getattr(back, name).tolist() == getattr(whole, name).tolist()
    assert read_ledger(path, changed(revision=2)) is None
    path.write_bytes(b"spoilt")
    assert read_ledger(path, experiment()) is None


def test_the_last_context_is_a_vehicles_slice(tmp_path: Path) -> None:
    """A vehicle that moved is where it is now; one whose context is not known is in no slice."""
    ledger = lived(Ledger(experiment(), -1), began(), tmp_path, ["a", "b"])
    ledger.count(1, seen("b", region="south"), ledger.entered(began(), tmp_path)[1], DAY)
    told = {name: np.zeros(2) for name in (*COUNTS, "pre_alerts", "first_fault", "first_detected")}
    codes, words = ledger.vehicles(np.zeros(2, np.int8), 1, told).fields["region"]
    assert [words[code] for code in codes] == ["north", "south"]
