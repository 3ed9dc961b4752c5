"""Tests of looking at a history: what becomes of each column, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anomaly.errors import DataError
from anomaly.telemetry.survey import Survey, survey

VEHICLES, LENGTH = 40, 80
ROWS = VEHICLES * LENGTH
RNG = np.random.default_rng(11)
WEAR = np.tile(np.linspace(0, 3, LENGTH), VEHICLES) + RNG.normal(size=ROWS)
CYCLE = np.tile(np.arange(1, LENGTH + 1), VEHICLES)
BUS = np.repeat(np.arange(VEHICLES), LENGTH)


def look(tmp_path: Path, time: Any = CYCLE, **columns: Any) -> Survey:
    """The survey of a made fleet with a signal `wear` and more columns; rows shuffled."""
    frame = pd.DataFrame({"bus": BUS, "at": time, "wear": WEAR, **columns})
    frame.sample(frac=1.0, random_state=1).to_parquet(tmp_path / "h.parquet", index=False)
    return survey(tmp_path / "h.parquet", "bus", "at")


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (np.full(ROWS, 4.0), "is constant: 4"),
        (np.full(ROWS, np.nan), "holds no value"),
        (np.where(np.arange(ROWS) % 500 == 0, 1.0, 0.0), "is as good as constant: 0 in 99.8% of the readings"),
        (LENGTH - CYCLE, "moves by -1 at each reading: a counter or a countdown, not a sensor"),
        (np.cumsum(RNG.random(ROWS)), "only ever grows, as a meter does; score its rate instead"),
        (RNG.normal(size=ROWS), "is pure noise: nothing of it lasts"),
        (BUS % 7, "hardly ever changes within a vehicle"),
        (np.array(["x"] * ROWS), "not numeric"),
    ],
)
def test_a_column_without_a_sensor_in_it_is_left_out(tmp_path: Path, column: np.ndarray, why: str) -> None:
    """Columns that carry nothing to score are named with the reason; the rest is scored."""
    found = look(tmp_path, odd=column)
    assert [signal.name for signal in found.signals] == ["wear"]
    assert [left.name for left in found.left] == ["odd"]
    assert why in found.left[0].why


@pytest.mark.parametrize(
    "column",
    [
        RNG.normal(size=ROWS) + np.repeat(RNG.normal(size=VEHICLES), LENGTH),
        RNG.poisson(0.1, ROWS),
        WEAR.round(),
        (CYCLE // 30).astype(float),
        np.where(RNG.random(ROWS) < 0.1, np.nan, WEAR),
    ],
    ids=["noise about each vehicle's own level", "rare error counts", "coarse", "a few steps up", "with gaps"],
)
def test_a_column_that_may_be_a_sensor_is_scored(tmp_path: Path, column: np.ndarray) -> None:
    """Whatever might show a fault is kept."""
    assert [signal.name for signal in look(tmp_path, odd=column).signals] == ["wear", "odd"]


def test_a_name_that_no_signal_may_have_is_left_out(tmp_path: Path) -> None:
    """A column whose name the fleet file refuses is left out with the rule."""
    assert [left.name for left in look(tmp_path, **{'a"b': WEAR}).left] == ['a"b']


def test_stuck_limits_are_three_times_the_longest_run(tmp_path: Path) -> None:
    """A fine signal gets its longest run times three, at least 10; a coarse one gets none."""
    held = WEAR.copy()
    held[100:105] = held[100]
    found = {signal.name: signal.stuck_after for signal in look(tmp_path, held=held, coarse=WEAR.round()).signals}
    assert found == {"wear": 10, "held": 15, "coarse": 0}


@pytest.mark.parametrize(("run", "limit"), [(50, 150), (51, 0)])
def test_a_signal_that_holds_its_value_for_long_has_no_stuck_limit(tmp_path: Path, run: int, limit: int) -> None:
    """Long runs are a signal's nature, however long its vehicles live."""
    held = RNG.normal(size=1_000).cumsum()
    held[100 : 100 + run] = held[100]
    frame = pd.DataFrame({"bus": 1, "at": np.arange(1_000), "held": held})
    frame.to_parquet(tmp_path / "h.parquet", index=False)
    assert survey(tmp_path / "h.parquet", "bus", "at").signals[0].stuck_after == limit


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        (CYCLE, "cycles"),
        (CYCLE * 7 + 3, "cycles"),
        (CYCLE * 60 + 1_767_225_600, "s"),
        (CYCLE * 60_000 + 1_767_225_600_000, "ms"),
        (pd.to_datetime(CYCLE * 60 + 1_767_225_600, unit="s"), "ms"),
    ],
)
def test_the_unit_of_time_is_found(tmp_path: Path, time: Any, unit: str) -> None:
    """Timestamps are ms, large numbers s or ms since 1970, small ones the vehicle's own counter."""
    assert look(tmp_path, time=time).time_unit == unit


def test_the_unit_of_time_can_be_said(tmp_path: Path) -> None:
    """What a person says overrules what would be found."""
    look(tmp_path)
    assert survey(tmp_path / "h.parquet", "bus", "at", "s").time_unit == "s"


@pytest.mark.parametrize(("groups", "expected"), [(BUS % 2, 2), (BUS % 3, 0), (np.arange(ROWS) % 2, 0), (BUS * 0, 0)])
def test_cohorts_are_large_groups_of_vehicles(tmp_path: Path, groups: np.ndarray, expected: int) -> None:
    """A text column is a cohort only if it is the vehicle's own and each of several groups has 20 vehicles."""
    found = look(tmp_path, type=np.array([f"t{group}" for group in groups])).cohorts
    assert [cohort.groups for cohort in found] == ([expected] if expected else [])


def test_a_history_without_a_signal_is_refused(tmp_path: Path) -> None:
    """Where nothing varies the refusal says of each column why."""
    path = tmp_path / "h.parquet"
    pd.DataFrame({"bus": [1, 1], "at": [1, 2], "x": [3, 3], "y": ["a", "b"]}).to_parquet(path)
    with pytest.raises(DataError, match=r"(?s)no column can be scored.*x: is constant: 3.*y: is .*not numeric"):
        survey(path, "bus", "at")


def test_key_columns_must_be_there(tmp_path: Path) -> None:
    """A misspelt key column names its nearest."""
    look(tmp_path)
    with pytest.raises(DataError, match="column `buss` is missing; did you mean `bus`"):
        survey(tmp_path / "h.parquet", "buss", "at")


def test_turbofan_of_one_regime(real_data: Path) -> None:
    """Tiny noise of settings is no regime; constant sensors go, every sensor that wears stays."""
    found = survey(real_data / "cmapss" / "train_FD001.parquet", "unit", "cycle")
    assert (found.time_unit, found.vehicles, found.regime) == ("cycles", 100, [])
    kept = {signal.name for signal in found.signals}
    assert {f"sensor_{i:02d}" for i in (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)} <= kept
    constant = {f"sensor_{i:02d}" for i in (1, 5, 10, 16, 18, 19)}
    assert constant | {"setting_1", "setting_3"} <= {left.name for left in found.left}


def test_turbofan_of_six_regimes(real_data: Path) -> None:
    """The three settings are the regime, with six classes; sensors that only repeat it are left out."""
    found = survey(real_data / "cmapss" / "train_FD002.parquet", "unit", "cycle")
    assert (found.regime, found.regimes) == (["setting_1", "setting_2", "setting_3"], 6)
    kept = {signal.name for signal in found.signals}
    assert {f"sensor_{i:02d}" for i in (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)} <= kept
    assert {left.name for left in found.left} == {"sensor_01", "sensor_05", "sensor_18", "sensor_19"}
