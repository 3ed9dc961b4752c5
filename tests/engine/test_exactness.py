"""State and decisions are the same bytes for every way of cutting the stream, and after every restart."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.engine.engine import Engine
from anomaly.engine.events import Event
from anomaly.engine.model import Arm
from anomaly.engine.outcome import Outcome
from anomaly.fleet import Format
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.decode import Decoder
from anomaly.telemetry.encode import encode_message
from tests.engine import world

COUNT = 600


def restarts(seed: int) -> list[Event]:
    """Twelve events of five vehicles."""
    times = np.random.default_rng(seed).integers(0, 4 * COUNT, 12)
    return [Event(f"e{i}", f"v{i % 5}", int(ts)) for i, ts in enumerate(times)]


def arms() -> list[Arm]:
    """Two arms with models and thresholds of their own."""
    return [world.arm(), world.arm(digest="m2", k=2.5, q_fleet=1.5)]


def result(outcomes: Sequence[tuple[int, Outcome]], engine: Engine) -> str:
    """Hex digest of everything that was said and of all state; `outcomes` with the row that each begins at."""
    hashed = hashlib.sha256(engine.digest().encode())
    parts = []
    for start, outcome in outcomes:
        shifted = [table._replace(row=table.row + start) for table in outcome[:3]]
        applied = [(int(row) + start, event, kept) for row, event, kept in zip(*outcome.applied, strict=True)]
        parts.append((shifted, applied, outcome.status))
    for table in range(3):
        for column in range(len(parts[0][0][table])):
            hashed.update(np.concatenate([part[0][table][column] for part in parts]).tobytes())
    hashed.update(repr([pair for part in parts for pair in part[1]]).encode())
    hashed.update(np.concatenate([part[2] for part in parts]).tobytes())
    return hashed.hexdigest()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, COUNT - 1), max_size=12), share=st.integers(1, 44))
def test_vehicles_that_leave_and_come_back_change_nothing(seed: int, cuts: list[int], share: int) -> None:
    """With most vehicles let go after every batch, and restarts in between, nothing differs."""
    batch = world.stream(seed, COUNT)
    engine, kept = world.engine(*arms()), {}

    def back(vehicles: Sequence[str]) -> dict[str, bytes]:
        return {vehicle: kept.pop(vehicle) for vehicle in vehicles if vehicle in kept}

    engine._revive = back
    engine.add_events(restarts(seed))
    outcomes, saved = [], []
    for start, stop in itertools.pairwise([0, *sorted(set(cuts)), len(batch)]):
        outcomes.append((start, engine.decide(batch.rows(start, stop))))
        kept |= engine.evict(share)
        saved += engine.delta()
        engine = world.engine(*arms())
        engine._revive = back
        engine.apply(saved)
    engine.bring_back(sorted(kept))
    assert result(outcomes, engine) == run(batch, [], seed=seed)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, COUNT - 1), max_size=12), pages=st.sets(st.integers(0, 12))
)
def test_pages_of_any_moment_and_the_deltas_after_the_first_restore(
    seed: int, cuts: list[int], pages: set[int]
) -> None:
    """Pages may be from different checkpoints, while vehicles leave and others take their slots."""
    batch = world.stream(seed, COUNT)
    engine, kept, blobs, deltas = world.engine(*arms()), {}, {}, []
    engine._revive = lambda vehicles: {vehicle: kept.pop(vehicle) for vehicle in vehicles if vehicle in kept}
    for turn, (start, stop) in enumerate(itertools.pairwise([0, *sorted(set(cuts)), len(batch)])):
        engine.decide(batch.rows(start, stop))
        kept |= engine.evict(turn % 7)
        if turn in pages:
            blobs |= {number: engine.page(number) for number in range(-1, engine.pages)}
        deltas += engine.delta()
    again = world.engine(*arms())
    again.apply([*blobs.values(), *deltas])
    assert again.digest() == engine.digest()


def run(batch: Batch, cuts: Sequence[int], revive: bool = False, seed: int = 0, wide: bool = False) -> str:
    """The result of `batch` cut at `cuts`; with `revive`, by a new engine from saved bytes after every cut."""
    engine = world.engine(*arms(), wide=wide)
    engine.add_events(restarts(seed))
    saved: list[bytes] = []
    outcomes = []
    edges = [0, *sorted(set(cuts)), len(batch)]
    for start, stop in itertools.pairwise(edges):
        outcomes.append((start, engine.decide(batch.rows(start, stop))))
        saved += engine.delta()
        if revive:
            engine = world.engine(*arms(), wide=wide)
            engine.apply(saved)
    return result(outcomes, engine)


@pytest.mark.parametrize("size", [1, 7, 64, 257])
def test_batches_of_any_size_give_the_same_bytes(size: int) -> None:
    """Batches of 1, 7, 64 and 257 lead to the decisions and the state of one whole batch."""
    batch = world.stream(1, COUNT)
    assert run(batch, range(size, COUNT, size)) == run(batch, [])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, COUNT - 1), max_size=12), data=st.data())
def test_any_cut_and_any_restart_give_the_same_bytes(seed: int, cuts: list[int], data: st.DataObject) -> None:
    """However the stream is cut, and with a new process behind every cut or none, nothing differs."""
    batch = world.stream(seed, COUNT)
    revive, wide = data.draw(st.booleans()), data.draw(st.booleans())
    assert run(batch, cuts, revive, seed, wide) == run(batch, [], seed=seed, wide=wide)


@pytest.mark.parametrize("size", [1_024, 8_192])
def test_large_batches_give_the_same_bytes(size: int) -> None:
    """20,000 readings of 45 vehicles, one of them in nearly half of all, in batches as large as they are polled."""
    batch = world.stream(2, 20_000)
    assert run(batch, range(size, 20_000, size), wide=True) == run(batch, range(7_777, 20_000, 7_777), wide=True)


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
    engine = world.engine(*arms())
    base = world.whole(engine)
    first = engine.decide(batch.rows(0, 300))
    revived = world.engine(*arms())
    revived.apply(base)
    rest = revived.decide(batch.rows(300, COUNT))
    whole = engine.decide(batch.rows(300, COUNT))
    assert result([(0, first), (300, rest)], revived) != result([(0, first), (300, whole)], engine)


def test_the_compiled_kernels_equal_plain_python() -> None:
    """The functions behind the kernels, run as plain Python, give the same bits."""
    root = Path(__file__).parents[2]
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from tests.engine import test_exactness as t; "
        "print(t.run(t.world.stream(5, t.COUNT), [], wide=True))"
    )
    plain = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=plain, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == run(world.stream(5, COUNT), [], wide=True)
