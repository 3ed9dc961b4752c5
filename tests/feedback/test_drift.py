"""Monitoring without labels: what changed is found, and quiet stays quiet."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.feedback.drift import Finding, Window, calibrate, judge, psi

QUIET = 12


def window(number: int, rng: np.random.Generator, shift: float = 0.0, **scalars: float) -> Window:
    """A week of two signals and a score in two cohorts; `shift` moves one signal of one cohort."""
    values = {
        f"signal {name}:{cohort}": rng.normal(0, 1, 500).astype(np.float32)
        for name in "ab"
        for cohort in ("north", "south")
    }
    values["signal a:north"] += np.float32(shift)
    score = rng.gamma(2, 1, 700)
    return Window(
        start=number * 7,
        end=number * 7 + 7,
        values=values | {"score:north": score.astype(np.float32)},
        scalars={"share in burn-in": 0.1 + 0.01 * rng.random()} | scalars,
        daily={"score:north": score.reshape(7, 100).mean(axis=1).tolist()},
    )


def findings(seed: int, shift: float = 0.0, **scalars: float) -> list[Finding]:
    """Quiet weeks, then one that is looked at."""
    rng = np.random.default_rng(seed)
    quiet = [window(number, rng) for number in range(QUIET)]
    return judge(calibrate("m/1", quiet), [*quiet, window(QUIET, rng, shift, **scalars)])


def test_a_shift_of_one_signal_in_one_cohort_is_named() -> None:
    """Half a spread in 500 readings passes its limit, and is the first thing said."""
    found = findings(4, shift=0.5)
    assert (found[0].name, found[0].drifted) == ("stability of signal a:north", True)
    assert not any(one.drifted for one in found if "b:" in one.name)


def test_a_quiet_week_rarely_passes_a_limit() -> None:
    """Over all distributions together no more than about one week in thirteen, as the calibration says."""
    weeks = 60
    alarms = sum(any(one.drifted and "stability" in one.name for one in findings(seed)) for seed in range(weeks))
    assert alarms <= weeks / (QUIET + 1) + 3 * np.sqrt(weeks / (QUIET + 1))


@pytest.mark.parametrize("name", ["share in burn-in", "alerts against the budget", "median label delay in days"])
def test_a_figure_beyond_what_quiet_weeks_had_is_named(name: str) -> None:
    """A single figure has the largest quiet one as its limit; one that quiet history never had is not judged."""
    found = {one.name: one.drifted for one in findings(1, **{name: 0.5})}
    assert found.get(name, False) is (name == "share in burn-in")


def test_values_beyond_the_training_range_are_counted() -> None:
    """A sensor that shows what was never seen."""
    found = {one.name: one for one in findings(2, shift=6.0)}
    assert found["outside the training range"].drifted
    assert found["outside the training range"].value > 0.9


def test_a_lasting_change_of_the_daily_score_is_found_by_adwin() -> None:
    """Weeks of higher scores are one change; the quiet time before has none."""
    rng = np.random.default_rng(3)
    quiet = [window(number, rng) for number in range(QUIET)]
    reference = calibrate("m/1", quiet)
    higher = [window(QUIET + number, rng) for number in range(6)]
    for one in higher:
        one.daily["score:north"][:] = [value + 1.0 for value in one.daily["score:north"]]
    name = "change of the daily score:north"
    assert next(one for one in judge(reference, [*quiet, *higher]) if one.name == name).drifted
    assert not next(one for one in judge(reference, quiet) if one.name == name).drifted


def test_the_index_is_zero_for_the_same_and_grows_with_the_difference() -> None:
    """Equal shares give nothing, a bin that moved gives (p - q) ln(p / q) of both."""
    same = np.array([0.25, 0.25, 0.25, 0.25])
    assert psi(same, same * 1e6) == pytest.approx(0.0, abs=1e-9)
    moved = psi(same, np.array([0.5, 0.0, 0.25, 0.25]) * 1e6)
    assert moved > psi(same, np.array([0.3, 0.2, 0.25, 0.25]) * 1e6) > 0.01


def test_too_few_windows_are_refused() -> None:
    """Limits of three weeks would mean nothing."""
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="3 windows are too few"):
        calibrate("m/1", [window(number, rng) for number in range(3)])
