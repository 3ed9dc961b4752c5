"""Tests of finding regime signals, with controls that must not be taken for one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.telemetry.regimes import Regimes, find_regimes, joint, levels_of, within
from anomaly.telemetry.segments import Segments

VEHICLES, LENGTH = 30, 100
RNG = np.random.default_rng(5)
MODE = RNG.integers(0, 4, VEHICLES * LENGTH)
NOISE = RNG.normal(size=(VEHICLES * LENGTH, 4))
SENSOR = MODE * 30.0 + NOISE[:, 0]
RARE = np.where(np.repeat(np.arange(VEHICLES), LENGTH) < 5, MODE > 1, 0) * 7.0


def found(**columns: Any) -> Regimes:
    """Regimes of a made fleet."""
    segments = Segments.of(np.repeat(np.arange(VEHICLES), LENGTH))
    return find_regimes(list(columns), np.column_stack([*columns.values()]).astype(float), segments)


def test_a_setting_that_moves_a_sensor_is_a_regime_signal() -> None:
    """A few separate values, a little noisy, that move another signal are a regime, one class a value."""
    setting = np.array([0.0, 10, 25, 60])[MODE] + 0.01 * NOISE[:, 1]
    regimes = found(setting=setting, sensor=SENSOR)
    assert (regimes.signals, regimes.number) == ([0], 4)
    assert len(set(zip(MODE.tolist(), regimes.classes.tolist(), strict=True))) == 4


@pytest.mark.parametrize(
    ("column", "sensor"),
    [
        (RARE, RARE + NOISE[:, 0]),
        (np.array([0.0, 10, 25, 60])[MODE], NOISE[:, 0]),
        (NOISE[:, 1], SENSOR),
        (np.where(RNG.random(len(MODE)) < 0.01, 5.0, 0.0), SENSOR),
        (np.repeat(RNG.integers(0, 2, VEHICLES), LENGTH) * 7.0, SENSOR),
        (np.round(SENSOR / 30), NOISE[:, 2]),
        (np.array([0.0, 10, 25, 60])[MODE] + np.tile(np.linspace(0, 0.1, LENGTH), VEHICLES), SENSOR),
    ],
    ids=[
        "in few vehicles",
        "moves nothing",
        "noise",
        "rare events",
        "fixed for each vehicle",
        "even steps",
        "wears within its levels",
    ],
)
def test_what_is_no_regime_is_not_taken_for_one(column: np.ndarray, sensor: np.ndarray) -> None:
    """Columns that look like a mode in one way but fail in another are left to be scored."""
    assert 0 not in found(column=column, sensor=sensor).signals


def test_even_steps_are_pointed_out() -> None:
    """A few values on an even grid may be a gear or a coarse sensor: they are named, not decided."""
    assert found(gear=MODE, sensor=SENSOR).even == [0]


def test_of_two_that_say_the_same_one_is_enough() -> None:
    """A second column that only repeats the first adds no regime signal, unless it is named alike."""
    first, second = np.array([0.0, 10, 25, 60])[MODE], np.array([1.0, 2, 4, 9])[MODE]
    assert found(mode=first, state=second, sensor=SENSOR).signals == [0]
    assert found(mode_1=first, sensor=SENSOR, mode_2=second).signals == [0, 2]


def test_two_that_say_different_things_are_both_taken() -> None:
    """Two independent modes make joint classes."""
    other = RNG.integers(0, 2, len(MODE))
    regimes = found(mode=np.array([0.0, 10, 25, 60])[MODE], plough=other * 5.0, x=SENSOR, y=other * 9 + NOISE[:, 3])
    assert (regimes.signals, regimes.number) == ([0, 1], 8)


@given(st.lists(st.floats(-3e38, 3e38) | st.just(float("nan")), min_size=1, max_size=60))
def test_levels_are_intervals(values: list[float]) -> None:
    """Whatever the values, levels are numbered without holes and in order of value, at most 20."""
    column = np.array(values)
    levels = levels_of(column)
    if levels is not None:
        order = np.argsort(column[np.isfinite(column)], kind="stable")
        assert (np.diff(levels[np.isfinite(column)][order]) >= 0).all()
        assert set(levels.tolist()) == set(range(levels.max() + 1))
        assert 2 <= levels.max() + 1 <= 20


def test_within_takes_the_mean_of_each_class_off() -> None:
    """Each class ends with mean 0, and gaps stay gaps."""
    values = np.array([[1.0], [3.0], [10.0], [np.nan]])
    np.testing.assert_array_equal(within(values, np.array([0, 0, 1, 1])), [[-1], [1], [0], [np.nan]])


def test_joint_is_the_product_of_two_partitions() -> None:
    """Readings share a joint class exactly when they share both."""
    assert joint(np.array([0, 0, 1, 1]), np.array([0, 2, 2, 2])).tolist() == [0, 1, 2, 2]
