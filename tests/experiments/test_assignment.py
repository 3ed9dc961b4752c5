"""Assignment: uniform, stable, independent, and nobody switches in a ramp."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.errors import ConfigError
from anomaly.experiments.assignment import assign, bucket, propensities, read_salt
from anomaly.experiments.file import BUCKETS, Experiment
from tests.experiments.plan import TEXT, experiment

FLEET = [f"vehicle-{number:06d}" for number in range(20_000)]


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """Pearson's statistic as a multiple of its standard deviation above its mean."""
    degrees = len(counts) - 1
    return float((((counts - expected) ** 2 / expected).sum() - degrees) / (2 * degrees) ** 0.5)


def split(share: float, salt: bytes = b"s", text: str = TEXT) -> list[int | None]:
    """The arm of each vehicle of the fleet."""
    return list(map(assign(experiment(text), share, salt), FLEET))


def test_buckets_are_uniform() -> None:
    """Ids that count up fill 100 groups of buckets evenly."""
    groups = np.array([bucket(vehicle, b"salt") for vehicle in FLEET]) // (BUCKETS // 100)
    counts = np.bincount(groups, minlength=100)
    assert abs(chi_square(counts, np.full(100, 200.0))) < 4


def test_the_bucket_of_a_vehicle_never_changes() -> None:
    """The same on every host and in every version: these are written down."""
    assert [bucket(vehicle, b"salt") for vehicle in ("a", "b", "ä")] == [856, 6731, 1383]


@settings(max_examples=10, deadline=None)
@given(salt=st.binary(min_size=1, max_size=80), weight=st.integers(1, 99))
def test_a_ramp_moves_nobody_from_one_arm_to_another(salt: bytes, weight: int) -> None:
    """From 1 to 5, 25, 50 and 100 %: who is in an arm stays in it, others only join."""
    first, second, third = TEXT.split("share = 0.5")
    text = f"{first}share = {weight / 100}{second}share = {1 - weight / 100}{third}"
    plan = experiment(text)
    before: list[int | None] = [None] * 2_000
    for share in (0.01, 0.05, 0.25, 0.5, 1.0):
        now = list(map(assign(plan, share, salt), FLEET[:2_000]))
        assert all(old in (None, new) for old, new in zip(before, now, strict=True))
        before = now
    assert None not in before


@pytest.mark.parametrize("share", [0.01, 0.25, 1.0])
def test_as_many_take_part_as_the_propensity_says(share: float) -> None:
    """The logged propensity of each arm is the share of vehicles that are in it."""
    found = np.array([2 if arm is None else arm for arm in split(share)])
    shares = [*propensities(experiment(), share)]
    assert shares == [pytest.approx(share / 2)] * 2
    for arm, expected in enumerate(shares):
        assert (found == arm).mean() == pytest.approx(expected, abs=4 * (expected / len(FLEET)) ** 0.5)


def test_thirty_adjacent_salts_split_independently() -> None:
    """Neither salts nor revisions that differ by one digit put the same vehicles together."""
    splits = [np.array(split(1.0, f"salt-{number}".encode())) for number in range(30)]
    splits += [np.array(split(1.0, b"s", f"revision = {number}\n" + TEXT)) for number in range(1, 11)]
    worst = []
    for one, other in pairwise(splits):
        counts = np.bincount(2 * one + other, minlength=4)
        worst.append(chi_square(counts, np.full(4, len(FLEET) / 4)))
    assert max(worst) < 6
    assert np.mean(np.array(worst) > 2) < 0.2


def test_ranges_of_one_layer_share_no_vehicle() -> None:
    """Two experiments side by side in a layer are exclusive, whatever their salts."""
    low = split(1.0, b"one", "layer = {range = [0, 3000]}\n" + TEXT)
    high = split(1.0, b"two", "layer = {range = [3000, 10000]}\n" + TEXT)
    assert all((one is None) != (other is None) for one, other in zip(low, high, strict=True))


def test_the_salt_is_read_from_where_it_is_kept(tmp_path: Path) -> None:
    """A file or the environment; without one it is the id."""
    (tmp_path / "salt").write_text("hidden\n")
    assert read_salt(_with(f"file:{tmp_path}/salt")) == b"hidden"
    assert read_salt(_with("env:SALT"), {"SALT": "hidden"}) == b"hidden"
    assert read_salt(experiment()) == b"colder"


@pytest.mark.parametrize("reference", ["env:SALT", "file:/not/there"])
def test_a_salt_that_is_not_there_is_refused(reference: str) -> None:
    """An assignment with an empty secret would be another one."""
    with pytest.raises(ConfigError, match=f"salt_ref {reference}"):
        read_salt(_with(reference), {})


def _with(reference: str) -> Experiment:
    return experiment(f'salt_ref = "{reference}"\n' + TEXT)
