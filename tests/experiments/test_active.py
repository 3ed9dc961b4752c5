"""What the scorer is told: arms, who is in which, and when that changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly.engine.model import Model
from anomaly.errors import ConfigError
from anomaly.experiments.active import active_arms, entered
from anomaly.experiments.controller import Effects, act, begin, stop
from anomaly.experiments.state import Taken
from tests.engine.world import arm
from tests.experiments.plan import RAMP, TEXT, ramped
from tests.experiments.test_controller import look

FLEET = [f"v{number}" for number in range(4_000)]


def resolve(reference: str) -> Model:
    """A model of that name."""
    return arm(digest=reference).model._replace(name=reference)


def test_without_experiments_everybody_has_the_champion(tmp_path: Path) -> None:
    """One arm, the whole fleet."""
    arms, assign, _ = active_arms(tmp_path / "none", resolve)
    assert [(one.name, one.propensity, one.model.name) for one in arms] == [("champion", 1.0, "@champion")]
    assert assign("v1") == 0


def test_an_experiment_splits_its_share_of_the_vehicles(tmp_path: Path) -> None:
    """As the file says, on the first step of the ramp, from the moment it is there."""
    (tmp_path / "colder.toml").write_text(RAMP + TEXT)
    arms, assign, _ = active_arms(tmp_path, resolve)
    assert [(one.name, round(one.propensity, 6), one.model.name) for one in arms] == [
        ("champion", 0.9, "@champion"),
        ("colder/old", 0.05, "fleet/1"),
        ("colder/new", 0.05, "fleet@challenger"),
    ]
    counts = [sum(assign(vehicle) == place for vehicle in FLEET) / len(FLEET) for place in range(3)]
    assert counts == [pytest.approx(0.9, abs=0.02), pytest.approx(0.05, abs=0.015), pytest.approx(0.05, abs=0.015)]


def test_the_state_of_the_controller_acts(tmp_path: Path) -> None:
    """Pinned models, the ramp's next step, and the end: each changes the digest; nobody switches arm."""
    (tmp_path / "colder.toml").write_text(RAMP + TEXT)
    begin(tmp_path, ramped(), 0, lambda reference: reference.replace("@challenger", "/2"))
    arms, before, first = active_arms(tmp_path, resolve)
    assert [one.model.name for one in arms] == ["@champion", "fleet/1", "fleet/2"]
    act(tmp_path, ramped(), look(4), Effects(_never, _never))
    arms, after, second = active_arms(tmp_path, resolve)
    assert [round(one.propensity, 6) for one in arms] == [0.0, 0.5, 0.5]
    assert all(before(vehicle) in (0, after(vehicle)) for vehicle in FLEET)
    stop(tmp_path, "colder", 9, "enough")
    arms, _, third = active_arms(tmp_path, resolve)
    assert [one.name for one in arms] == ["champion"]
    assert len({first, second, third}) == 3


def test_reading_again_says_the_same(tmp_path: Path) -> None:
    """Nothing changed: same digest, same assignment."""
    (tmp_path / "colder.toml").write_text(TEXT)
    one, other = active_arms(tmp_path, resolve), active_arms(tmp_path, resolve)
    assert one[2] == other[2]
    assert [one[1](vehicle) for vehicle in FLEET] == [other[1](vehicle) for vehicle in FLEET]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("[0, 6000]", "[5000, 10000]", "both have the buckets 5000 to 6000"),
        ('[0, 5000], name = "a"', '[5000, 10000], name = "b"', "in the layers a and b"),
    ],
)
def test_two_experiments_never_claim_one_vehicle(tmp_path: Path, first: str, second: str, said: str) -> None:
    """Overlapping ranges and different layers are refused; side by side is fine."""
    for name, layer in (("colder", first), ("warmer", second)):
        (tmp_path / f"{name}.toml").write_text(f"layer = {{ range = {layer} }}\n" + TEXT.replace("colder", name))
    with pytest.raises(ConfigError, match=f"experiments colder and warmer .*{said}"):
        active_arms(tmp_path, resolve)
    (tmp_path / "warmer.toml").write_text("layer = { range = [9000, 10000] }\n" + TEXT.replace("colder", "warmer"))
    (tmp_path / "colder.toml").write_text("layer = { range = [0, 9000] }\n" + TEXT)
    assert len(active_arms(tmp_path, resolve)[0]) == 5


def test_a_changed_running_revision_is_refused(tmp_path: Path) -> None:
    """The scorer does not act on an edit under a running experiment."""
    (tmp_path / "colder.toml").write_text(RAMP + TEXT)
    begin(tmp_path, ramped(), 0, lambda reference: reference)
    (tmp_path / "colder.toml").write_text(RAMP + TEXT.replace("min_days = 7", "min_days = 8"))
    with pytest.raises(ConfigError, match="changed after it began"):
        active_arms(tmp_path, resolve)


def test_each_vehicle_counts_from_the_step_that_it_entered_at() -> None:
    """The first step's vehicles from its time, those that joined from theirs."""
    steps = [Taken(share=0.1, at=100), Taken(share=1.0, at=200)]
    since = entered(ramped(), steps, b"salt", FLEET)
    assert len(since) == len(FLEET)
    early = entered(ramped(), steps[:1], b"salt", FLEET)
    assert {vehicle for vehicle, at in since.items() if at == 100} == set(early)
    assert len(early) / len(FLEET) == pytest.approx(0.1, abs=0.02)


def _never(model: str, reason: str) -> None:
    raise AssertionError(model)
