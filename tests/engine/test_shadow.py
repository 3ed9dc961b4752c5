"""A model that is tried beside the one that acts: exact for every cut, without effect, ready when it is promoted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.engine import shadow as shadows
from anomaly.engine.model import Arm
from anomaly.engine.outcome import Kind, Outcome, Shadows
from tests.engine import world

COUNT = 600
MADE = world.checked()


def arms(beside: bool = True) -> list[Arm]:
    """Two arms; beside the model of the first, one that alarms earlier is tried."""
    acting, other = world.checked_arm(MADE), world.checked_arm(MADE, digest="m2", k=4.0, q_fleet=2.0)
    tried = world.checked_arm(MADE, digest="m3", k=3.0, q_fleet=2.0).model
    return [acting._replace(shadow=tried if beside else None), other]


def decided(seed: int, cuts: Sequence[int], revive: bool = False, beside: bool = True) -> list[tuple[int, Outcome]]:
    """Outcomes of a stream cut at `cuts`, each with its first row; with `revive` a new engine goes on after each."""
    kept, saved, outcomes = world.Baselines(), [], []
    engine = world.engine(*arms(beside), text=world.CHECKED, made=MADE, kept=kept)
    batch = world.eventful(seed, COUNT)
    engine.add_events(world.happenings(seed, 4 * COUNT))
    for start, stop in itertools.pairwise([0, *sorted(set(cuts)), len(batch)]):
        outcomes.append((start, engine.decide(batch.rows(start, stop))))
        kept.keep(outcomes[-1][1].applied)
        saved += engine.delta()
        if revive:
            engine = world.engine(*arms(beside), text=world.CHECKED, made=MADE, kept=kept)
            engine.apply(saved)
    return outcomes


def joined(outcomes: Sequence[tuple[int, Outcome]]) -> Shadows:
    """All that shadows said, rows counted from the stream's beginning."""
    parts = [outcome.shadows._replace(row=outcome.shadows.row + start) for start, outcome in outcomes]
    return Shadows(*(np.concatenate([part[place] for part in parts if len(part.row)]) for place in range(6)))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, COUNT - 1), max_size=12), revive=st.booleans())
def test_shadows_are_the_same_for_every_cut_and_after_every_restart(seed: int, cuts: list[int], revive: bool) -> None:
    """Scores, thresholds, alarms and shares are equal to the bit, while baselines start again and vehicles shift."""
    whole, parts = (joined(decided(seed, each, revive)) for each in ([], cuts))
    assert len(whole.row)
    for one, other in zip(whole, parts, strict=True):
        assert one.tobytes() == other.tobytes()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_acting_model_decides_as_if_it_were_alone(seed: int) -> None:
    """Decisions, episodes and evidence are byte-equal with a shadow and without."""
    with_it, alone = (decided(seed, [200], beside=beside)[1][1] for beside in (True, False))
    for table, other in zip(with_it[:3], alone[:3], strict=True):
        assert all(one.tobytes() == two.tobytes() for one, two in zip(table, other, strict=True))
    assert len(with_it.shadows.row)
    assert not len(alone.shadows.row)


def test_a_promoted_shadow_goes_on_with_what_it_learned() -> None:
    """Its thresholds are those that it would have had as a shadow, not the fleet's; a model that is new has these."""
    batch, tried = world.stream(1, COUNT), world.arm(digest="m3", k=2.0, q_fleet=1.0).model
    shadowed, promoted = (world.engine(world.arm()._replace(shadow=tried)) for _ in range(2))
    for engine in (shadowed, promoted):
        engine.decide(batch.rows(0, 400))
    promoted.use([Arm("champion", 1.0, tried)], lambda _vehicle: 0)
    would, does = shadowed.decide(batch.rows(400, COUNT)).shadows, promoted.decide(batch.rows(400, COUNT)).decisions
    first = np.unique(np.array(batch.vehicles[400:])[would.row], return_index=True)[1]
    fault = (does.kinds[first] & 0b10011) <= 0b10000  # another kind shows a score of its own
    np.testing.assert_array_equal(would.threshold[first][fault], does.threshold[first][fault])
    assert (would.threshold[first][fault] != tried.k).sum() > 2


def test_shares_say_which_signals_a_shadow_would_alarm_for() -> None:
    """One row an alarm, each summing to 1."""
    found = joined(decided(1, [100, 300]))
    assert len(found.share) == found.alarm.sum() > 10
    np.testing.assert_allclose(found.share.sum(axis=1), 1.0, rtol=1e-5)


def test_the_compiled_pass_equals_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function behind the kernel gives the same bits."""
    compiled = joined(decided(3, []))
    monkeypatch.setattr(shadows, "overshadow", shadows.overshadow.py_func)
    plain = joined(decided(3, []))
    assert all(one.tobytes() == other.tobytes() for one, other in zip(compiled, plain, strict=True))


def test_the_same_model_under_another_digest_agrees_in_everything() -> None:
    """A model beside itself has its scores, thresholds and alarms, while episodes open and end and vehicles shift."""
    acting = world.arm()
    beside = acting._replace(shadow=acting.model._replace(digest="m3"))
    engine = world.engine(beside, text=world.CHECKED)
    engine.add_events(world.happenings(5, 16 * COUNT))
    outcome = engine.decide(world.eventful(5, 4 * COUNT))
    decisions, would = outcome.decisions, outcome.shadows
    plain = (decisions.kinds & (1 << Kind.BORN_ILL | 1 << Kind.ABRUPT)) == 0
    assert would.alarm.sum() > 50
    assert (decisions.kinds & (1 << Kind.LASTING_SHIFT)).any()
    np.testing.assert_array_equal(would.alarm, decisions.kinds & (1 << Kind.FAULT) > 0)
    np.testing.assert_array_equal(would.score[plain], decisions.score[plain])
    np.testing.assert_array_equal(would.threshold[plain], decisions.threshold[plain])
