"""State and decisions are the same bytes for every way of cutting the stream, and after every restart."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.engine import engine as engine_module
from anomaly.engine.engine import Engine
from anomaly.engine.events import Action, Event
from anomaly.engine.frame import Frame
from anomaly.engine.layout import IN_PARTIAL, Observed, Readings
from anomaly.engine.model import Arm
from anomaly.engine.outcome import Kind, Outcome
from anomaly.engine.settle import settle
from anomaly.fleet import Format
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.decode import Decoder
from anomaly.telemetry.encode import encode_message
from tests.engine import world

COUNT = 600
FEW = st.lists(st.integers(1, COUNT - 1), max_size=12)
EVEN = st.integers(3, 50).map(lambda size: list(range(size, COUNT, size)))
"""Cuts: few anywhere, or so many that no batch has much that could be seen too early."""


def events(seed: int) -> list[Event]:
    """Events of every kind, undos among them, of five vehicles."""
    return world.happenings(seed, 4 * COUNT)


def arms(made: Frame) -> list[Arm]:
    """Two arms with models and thresholds of their own."""
    return [world.checked_arm(made), world.checked_arm(made, digest="m2", k=4.0, q_fleet=2.0, silence=3.0)]


def engine_of(kept: world.Baselines, made: Frame | None = None, text: str = world.CHECKED) -> Engine:
    """An engine with both arms and every check."""
    made = made or world.checked()
    return world.engine(*arms(made), text=text, made=made, kept=kept)


def result(outcomes: Sequence[tuple[int, Outcome]], engine: Engine) -> str:
    """Hex digest of everything that was said and of all state; `outcomes` with the row that each begins at."""
    hashed = hashlib.sha256(engine.digest().encode())
    for table in ("decisions", "episodes", "evidence", "silences"):
        parts = [getattr(outcome, table) for _, outcome in outcomes]
        parts = [part._replace(row=part.row + start) for part, (start, _) in zip(parts, outcomes, strict=True)]
        for column in zip(*parts, strict=True):
            named = isinstance(column[0], list)
            hashed.update(repr([*itertools.chain(*column)]).encode() if named else np.concatenate(column).tobytes())
    for start, outcome in outcomes:
        for row, event, kept in zip(*outcome.applied, strict=True):
            hashed.update(repr((int(row) + start, event, kept)).encode())
    hashed.update(np.concatenate([outcome.status for _, outcome in outcomes]).tobytes())
    masked = [list(outcome.masked.values()) for _, outcome in outcomes]
    hashed.update(np.sum(masked, axis=0).tobytes())
    return hashed.hexdigest()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=FEW, share=st.integers(1, 5))
def test_vehicles_that_leave_and_come_back_change_nothing(seed: int, cuts: list[int], share: int) -> None:
    """With vehicles let go after every batch, and restarts in between, nothing differs but when silence is seen."""
    batch, baselines, made = world.eventful(seed, COUNT), world.Baselines(), world.checked(rhythm=0.0)
    idle: dict[str, bytes] = {}

    def another() -> Engine:
        new = engine_of(baselines, made)
        new._revive = lambda vehicles: {vehicle: idle.pop(vehicle) for vehicle in vehicles if vehicle in idle}
        return new

    engine = another()
    engine.add_events(events(seed))
    outcomes, saved = [], []
    for start, stop in itertools.pairwise([0, *sorted(set(cuts)), len(batch)]):
        outcomes.append((start, engine.decide(batch.rows(start, stop))))
        baselines.keep(outcomes[-1][1].applied)
        idle |= engine.evict(share)
        saved += engine.delta()
        engine = another()
        engine.apply(saved)
    engine.bring_back(sorted(idle))
    assert result(outcomes, engine) == run(batch, [], seed=seed, made=made)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=FEW, pages=st.sets(st.integers(0, 12)))
def test_pages_of_any_moment_and_the_deltas_after_the_first_restore(
    seed: int, cuts: list[int], pages: set[int]
) -> None:
    """Pages may be from different checkpoints, while vehicles leave and others take their slots."""
    batch = world.eventful(seed, COUNT)
    engine, kept, blobs, deltas = engine_of(world.Baselines()), {}, {}, []
    engine.add_events(events(seed))
    engine._revive = lambda vehicles: {vehicle: kept.pop(vehicle) for vehicle in vehicles if vehicle in kept}
    for turn, (start, stop) in enumerate(itertools.pairwise([0, *sorted(set(cuts)), len(batch)])):
        engine.decide(batch.rows(start, stop))
        kept |= engine.evict(turn % 7)
        if turn in pages:
            blobs |= {number: engine.page(number) for number in range(-1, engine.pages)}
        deltas += engine.delta()
    again = engine_of(world.Baselines())
    again.apply([*blobs.values(), *deltas])
    assert again.digest() == engine.digest()


def test_the_cohort_of_a_reading_that_tells_none_is_saved() -> None:
    """Such a reading counts for the cohort that its vehicle is in, and the next delta says so."""
    batch = world.readings([(0.0, 10.0, -5.0, 0.0)] * 20, step=2)
    silent = replace(batch.rows(10, 20), context={name: [None] * 10 for name in batch.context})
    engine, again = engine_of(world.Baselines()), engine_of(world.Baselines())
    for part in (batch.rows(0, 10), silent):
        engine.decide(Batch.of(part.vehicles, part.ts, part.values, part.context, part.offsets))
        again.apply(engine.delta())
    assert again.digest() == engine.digest()


def run(batch: Batch, cuts: Sequence[int], revive: bool = False, seed: int = 4, made: Frame | None = None) -> str:
    """The result of `batch` cut at `cuts`; with `revive`, by a new engine from saved bytes after every cut."""
    baselines = world.Baselines()
    engine = engine_of(baselines, made)
    engine.add_events(events(seed))
    return result(*decided(engine, batch, cuts, baselines, revive))


def decided(
    engine: Engine, batch: Batch, cuts: Sequence[int], baselines: world.Baselines, revive: bool = False
) -> tuple[list[tuple[int, Outcome]], Engine]:
    """What came of each part, and the engine in the end."""
    saved: list[bytes] = []
    outcomes = []
    for start, stop in itertools.pairwise([0, *sorted(set(cuts)), len(batch)]):
        outcomes.append((start, engine.decide(batch.rows(start, stop))))
        baselines.keep(outcomes[-1][1].applied)
        saved += engine.delta()
        if revive:
            engine = engine_of(baselines, engine._frame)
            engine.apply(saved)
    return outcomes, engine


@pytest.mark.parametrize("size", [1, 7, 64, 257])
def test_batches_of_any_size_give_the_same_bytes(size: int) -> None:
    """Batches of 1, 7, 64 and 257 lead to the decisions and the state of one whole batch."""
    batch = world.eventful(1, COUNT)
    assert run(batch, range(size, COUNT, size)) == run(batch, [])


def test_all_that_may_happen_does_in_the_streams_that_are_compared() -> None:
    """One vehicle is there 200 times in one batch, every kind of alarm happens, and events undo earlier ones.

    But born ill: those vehicles come before anything is known of their cohort.
    """
    batch, baselines = world.eventful(1, COUNT), world.Baselines()
    engine = engine_of(baselines)
    engine.add_events(events(4))
    [(_, outcome)], _ = decided(engine, batch, [], baselines)
    kinds = {Kind.SENSOR, Kind.FAULT, Kind.ABRUPT, Kind.LASTING_SHIFT}
    assert batch.vehicles.tolist().count("v0") > 200
    assert kinds <= set(outcome.episodes.kind.tolist())
    assert len(outcome.silences.row)
    assert {event.action for event in outcome.applied.events} == set(Action)
    told = zip(outcome.applied.events, outcome.applied.kept, strict=True)
    assert any(kept for event, kept in told if event.action == Action.DISMISS)


def ignoring(readings: Readings, rows: tuple[int, int], *rest: object) -> int:
    """The second pass where decisions that change later features go unnoticed."""
    (observed,) = (part for part in rest if isinstance(part, Observed))
    stale = settle(readings, rows, *rest)
    while stale >= 0:
        observed.note[stale] &= 255 - IN_PARTIAL
        stale = settle(readings, (stale, rows[1]), *rest)
    return -1


@pytest.mark.parametrize("cause", ["lasting shift", "learning again"])
def test_the_comparison_sees_that_nothing_is_made_again(cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself can fail: without the way back, a lasting shift or an alarm while signals learn again shows."""
    shifts = cause == "lasting shift"
    text = world.CHECKED if shifts else world.CHECKED.replace("lasting_after = 5", "lasting_after = 0")
    batch = world.eventful(1, COUNT)

    def told(cuts: Sequence[int]) -> str:
        baselines = world.Baselines()
        engine = engine_of(baselines, text=text, made=world.frame(cohort=None, period=0))
        engine.add_events([] if shifts else [Event(f"e{n}", "v0", 500 + 90 * n, signals=(1,)) for n in range(15)])
        return result(*decided(engine, batch, cuts, baselines))

    assert told(range(64, COUNT, 64)) == told([])
    monkeypatch.setattr(engine_module, "settle", ignoring)
    assert told(range(64, COUNT, 64)) != told([])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=FEW | EVEN, data=st.data())
def test_any_cut_and_any_restart_give_the_same_bytes(seed: int, cuts: list[int], data: st.DataObject) -> None:
    """However the stream is cut, and with a new process behind every cut or none, nothing differs."""
    batch = world.eventful(seed, COUNT)
    revive, wide, abrupt = data.draw(st.booleans()), data.draw(st.booleans()), data.draw(st.booleans())
    made = world.checked(abrupt, features="wide" if wide else "evidence")
    assert run(batch, cuts, revive, seed, made) == run(batch, [], seed=seed, made=made)


@pytest.mark.parametrize("size", [1_024, 8_192])
def test_large_batches_give_the_same_bytes(size: int) -> None:
    """20,000 readings of 45 vehicles, one of them in nearly half of all, in batches as large as they are polled."""
    batch = world.stream(2, 20_000)
    made = world.checked(features="wide")
    assert run(batch, range(size, 20_000, size), made=made) == run(batch, range(7_777, 20_000, 7_777), made=made)


@pytest.mark.parametrize("pack", [1, 50])
@pytest.mark.parametrize("format", ["json", "msgpack", "arrow"])
def test_every_format_leads_to_the_same_bytes(format: Format, pack: int) -> None:
    """As JSON, MessagePack or Arrow, one reading a message or many, decisions and state are those of the columns."""
    batch = world.stream(4, COUNT)
    fleet = world.fleet(f'{world.FLEET}\n[stream]\nformat = "{format}"\n')
    messages = [encode_message(batch.rows(start, start + pack), fleet) for start in range(0, COUNT, pack)]
    decoded = Decoder(fleet).decode(messages, np.arange(len(messages)))
    assert not decoded.failures
    assert run(decoded.batch, [200]) == run(batch, [])


def test_the_comparison_sees_one_forgotten_delta() -> None:
    """The check itself can fail: a restart that loses the last delta is seen."""
    batch = world.stream(1, COUNT)
    engine = engine_of(world.Baselines())
    base = world.whole(engine)
    first = engine.decide(batch.rows(0, 300))
    revived = engine_of(world.Baselines())
    revived.apply(base)
    rest = revived.decide(batch.rows(300, COUNT))
    whole = engine.decide(batch.rows(300, COUNT))
    assert result([(0, first), (300, rest)], revived) != result([(0, first), (300, whole)], engine)


def test_the_compiled_kernels_equal_plain_python() -> None:
    """The functions behind the kernels, run as plain Python, give the same bits."""
    root = Path(__file__).parents[2]
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from tests.engine import test_exactness as t; "
        "print(t.run(t.world.eventful(5, t.COUNT), [], made=t.world.checked(features='wide')))"
    )
    plain = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=plain, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == run(world.eventful(5, COUNT), [], made=world.checked(features="wide"))
