"""Conformal features: rarity in a stream's own past, records only, the same bytes however the stream is cut."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anomaly.engine.conformal import RECENT, SEASON
from anomaly.engine.engine import Engine
from anomaly.engine.events import Event
from anomaly.engine.frame import STATISTICS, Frame, OwnPast
from anomaly.fleet import Fleet
from anomaly.settings import parse
from anomaly.telemetry.batch import Batch
from tests.engine import world

COUNT = 400
HOUR = 3_600
FLEET = '[fleet]\nname = "t"\nvehicle = "v"\ntime = "ts"\ntime_unit = "s"\n{}[model]\nfamily = "conformal"\n'


def restarts() -> list[Event]:
    """Twelve events of five vehicles."""
    times = np.random.default_rng(0).integers(0, 4 * COUNT, 12)
    return [Event(f"e{i}", f"v{i % 5}", int(ts)) for i, ts in enumerate(times)]


def wide_engine() -> Engine:
    """The three signals, two regimes and arms of the engine's other tests, with conformal features."""
    engine = Engine(world.fleet(), world.frame(features="conformal", cohort=None, period=HOUR))
    engine.use([world.arm(), world.arm(digest="m2", k=2.5, q_fleet=1.5)], lambda vehicle: sum(vehicle.encode()) % 2)
    return engine


def single(signals: Sequence[str] = ("a",), period: int = HOUR, past: OwnPast | None = None) -> Engine:
    """An engine of single streams with values as they are."""
    count = len(signals)
    frame = Frame(
        signals=tuple(signals),
        regime=(),
        center=((),),
        scale=(),
        mean=((0.0,) * count,),
        sd=((1.0,) * count,) if count > 1 else ((1.0,),),
        prior=(0.0,) * count,
        gain=tuple(map(tuple, np.eye(count).tolist())),
        burn_in=2,
        time_constant=20,
        period=period,
        features="conformal",
        own_past=past or OwnPast(),
    )
    return Engine(parse(FLEET.format("".join(f"[signals.{name}]\n" for name in signals)), Fleet, "t"), frame)


def features(engine: Engine, values: NDArray[np.float64], start: int = 0, step: int = 300) -> NDArray[np.float32]:
    """The feature rows of one vehicle's `values` [n, d], a reading every `step` seconds."""
    table = values.reshape(len(values), -1).astype(np.float32)
    ts = start + step * np.arange(1, len(table) + 1)
    return engine.features(Batch.of(["v"] * len(ts), ts, table, {}, np.arange(len(ts)))).features


def run(batch: Batch, cuts: Sequence[int], revive: bool = False, share: int = 0) -> str:
    """The result of `batch` cut at `cuts`; with `revive` by a new engine each, with `share` vehicles let go there."""
    engine, kept, saved, outcomes = wide_engine(), {}, [], []

    def back(vehicles: Sequence[str]) -> dict[str, bytes]:
        return {vehicle: kept.pop(vehicle) for vehicle in vehicles if vehicle in kept}

    engine._revive = back
    engine.add_events(restarts())
    for start, stop in itertools.pairwise([0, *sorted(set(cuts)), len(batch)]):
        outcomes.append(engine.decide(batch.rows(start, stop)))
        kept |= engine.evict(share)
        saved += engine.delta()
        if revive:
            engine = wide_engine()
            engine._revive = back
            engine.apply(saved)
    engine.bring_back(sorted(kept))
    said = [
        *(np.concatenate(column) for column in zip(*(outcome.decisions[1:] for outcome in outcomes), strict=True)),
        *(np.concatenate(column) for column in zip(*(outcome.episodes[1:] for outcome in outcomes), strict=True)),
        np.concatenate([outcome.evidence.expected for outcome in outcomes]),
        np.concatenate([outcome.status for outcome in outcomes]),
    ]
    return engine.digest() + hashlib.sha256(b"".join(column.tobytes() for column in said)).hexdigest()


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(1, COUNT - 1), max_size=8),
    revive=st.booleans(),
    share=st.integers(0, 44),
)
def test_any_cut_restart_and_eviction_give_the_same_bytes(seed: int, cuts: list[int], revive: bool, share: int) -> None:
    """However the stream is cut, and whoever is stored and comes back there, nothing differs."""
    batch = world.stream(seed, COUNT)
    assert run(batch, cuts, revive, share) == run(batch, [])


def test_the_compiled_kernels_equal_plain_python() -> None:
    """The functions behind the kernels, run as plain Python, give the same bits."""
    root = Path(__file__).parents[2]
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from tests.engine import test_conformal as t; "
        "print(t.run(t.world.stream(5, 90), []))"
    )
    plain = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=plain, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == run(world.stream(5, 90), [])


def direct(values: NDArray[np.float64], step: int = 300, past: OwnPast | None = None) -> NDArray[np.float64]:
    """Mean -ln p of one signal's statistics, unfiltered, straight from their definitions: float64[n]."""
    past = past or OwnPast()
    counted = [name in (past.statistics or STATISTICS) for name in STATISTICS]
    decay = 1 - 1 / past.memory if past.memory else 1.0
    slow = fast = before = values[0]
    season, hours, pasts, scores = 0.0, {}, [([], []) for _ in range(4)], []
    for n, x in enumerate(values, 1):
        hour = (n * step // HOUR % 24, (n * step // (24 * HOUR) + 3) % 7 >= 5)
        visits, usual = hours.get(hour, (0, slow))
        season += 0.1 * (abs(x - usual) - season)
        level, change = abs(x - slow), abs(x - before)
        fast += 0.1 * (x - fast)
        slow += max(0.003, 1 / n) * (x - slow)
        before = x
        hours[hour] = (visits + 1, usual + max(0.02, 1 / (visits + 2)) * (x - usual))
        now = (level, change, season, abs(fast - slow))
        nats = [rarity(*seen, s, decay) for seen, s in zip(pasts, now, strict=True)]
        scores.append(np.mean(np.array(nats)[counted]))
    return np.array(scores)


def rarity(past: list[float], scale: list[float], value: float, decay: float) -> float:
    """-ln p of a value in its past, to which it is then added; `scale`: empty, or the first value above 0."""
    scale += [value] if value > 0 and not scale else []

    def bin_of(a: float) -> int:
        return int(min(max(200 + 12 * math.log(a / scale[0]), 0), 399)) if a > 0 else 0

    weights = [decay**age for age in range(len(past) - 1, -1, -1)]
    bins = [bin_of(a) for a in past]
    larger = sum(w * (b > bin_of(value)) + 0.5 * w * (b == bin_of(value)) for w, b in zip(weights, bins, strict=True))
    top = 0.0
    for a in past:
        top = max(top * 0.9999, a)
    past.append(value)
    return -math.log((1 + larger) / (1 + sum(weights))) + (2 * math.log(value / top) if 0 < top < value else 0)


@pytest.mark.parametrize(
    "past", [OwnPast(), OwnPast(statistics=("level", "shift"), recent=40, memory=200), OwnPast(memory=0)]
)
def test_features_are_those_of_the_definition(past: OwnPast) -> None:
    """A slow direct computation over the whole past gives the same scores, 0 but for records of the last readings,
    whichever statistics count, of how many readings one has to be the rarest, and how far back is looked."""
    rng = np.random.default_rng(3)
    values = (5 + np.sin(np.arange(450) / 9) + rng.normal(0, 0.3, 450)).astype(np.float32).astype(np.float64)
    expected = direct(values, past=past)
    record = [bool(score > max(expected[max(0, n - past.recent) : n], default=0)) for n, score in enumerate(expected)]
    found = features(single(past=past), values)[:, :4].mean(axis=1)
    np.testing.assert_allclose(found, np.where(record, expected, 0), rtol=2e-3, atol=2e-3)
    assert 5 < sum(record) < 60


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), power=st.integers(-40, 40))
def test_the_scale_of_a_signal_does_not_matter(seed: int, power: int) -> None:
    """Values a power of two as large have the same features, to the bit."""
    values = np.random.default_rng(seed).normal(3, 1, 120)
    assert (features(single(), values) == features(single(), np.ldexp(values.astype(np.float32), power))).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_only_records_of_late_have_features(seed: int) -> None:
    """Among any 300 readings in a row the scores above 0 ascend."""
    score = features(single(), np.random.default_rng(seed).normal(0, 1, 700))[:, :4].sum(axis=1)
    rows = np.flatnonzero(score)
    close = np.diff(rows) <= RECENT
    assert (np.diff(score[rows])[close] > 0).all()


def test_p_values_of_noise_are_uniform() -> None:
    """Of 3,000 independent readings, about 5 % are among the rarest 5 % of their past."""
    engine, values = single(), np.random.default_rng(1).normal(0, 1, 3_000)
    rare = 0
    for n, row in enumerate(values.tolist()):
        engine._state.arrays.f4[:1, engine._state.arrays.at.end - RECENT : engine._state.arrays.at.end] = 0
        nats = features(engine, np.array([row]), start=300 * n)[0, 1]
        rare += n >= 500 and nats > -math.log(0.05)
    assert 0.035 < rare / 2_500 < 0.065


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_missing_values_leave_no_trace(bad: float) -> None:
    """With a missing or infinite value after every reading, the readings have the features that they have without."""
    values = np.random.default_rng(2).normal(0, 1, 100)
    mixed = np.column_stack([values, np.full(100, bad)]).reshape(-1)
    assert (features(single(period=0), mixed, step=1)[::2] == features(single(period=0), values)).all()


def test_the_largest_values_do_no_harm() -> None:
    """After readings at both ends of float32 all features are finite, and the state goes on."""
    largest = float(np.finfo(np.float32).max)
    values = np.array([0.0, largest, -largest, 1.0, 2.0, largest] * 40)
    assert np.isfinite(features(single(), values)).all()


def test_a_restart_forgets_all_of_the_past() -> None:
    """After a restart the features are those of a vehicle that was never seen."""
    values = np.random.default_rng(4).normal(0, 1, 200)
    engine = single(period=0)
    engine.add_events([Event("e", "v", 101 * 300)])
    assert (features(engine, values)[100:] == features(single(period=0), values[100:])).all()


def test_what_is_usual_at_its_hour_is_no_deviation() -> None:
    """A daily peak hardly counts as a deviation from its hour, but does where no time is known."""
    hours = np.arange(24 * 40)
    values = np.where(hours % 24 == 12, 9.0, 0.0) + np.random.default_rng(5).normal(0, 0.1, len(hours))
    deviation = []
    for period in (HOUR, 0):
        engine = single(period=period)
        features(engine, values, step=HOUR)
        deviation.append(float(engine._state.arrays.f4[0, engine._state.arrays.at.conformal + SEASON]))
    assert deviation[0] < 0.3 * deviation[1]


def test_a_vehicle_is_judged_by_the_signals_that_it_sends() -> None:
    """A signal that is never sent changes nothing: the mean is over those that are there."""
    values = np.random.default_rng(6).normal(0, 1, 200)
    both = features(single(("a", "b")), np.column_stack([values, np.full(200, np.nan)]))
    alone = features(single(), values)
    np.testing.assert_allclose(both[:, [0, 2, 4, 6]], 2 * alone[:, :4], rtol=1e-6)
    assert not both[:, [1, 3, 5, 7]].any()


def test_a_signal_that_stops_is_its_sensors_fault() -> None:
    """A dropout is counted from the reading after `silent_after` on, as with every other family."""
    engine = world.engine(made=world.frame(features="conformal", cohort=None, period=0))
    deaf = (0.0, 10.0, np.nan, 0.0)
    outcome = engine.decide(world.readings([world.NORMAL] * 30 + [deaf] * 30))
    assert outcome.masked["dropout"] == 30 - engine._fleet.quality.silent_after
