"""The autopilot's state machine: no step twice, none skipped, one champion at every moment, whenever it is killed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from anomaly.errors import DataError, UsageError
from tests.training.killed_loop import killable_steps, killed_often, place_of, run_killed, run_until, story
from training.loop.machine import NEXT, PLACES, STATES, Facts, Machine, Store, Went

CYCLES = 2
PROMOTED = ["watch", "retrain", "gate", "shadow", "experiment", "promote"]


def test_killed_at_every_place_no_step_is_done_twice_and_none_skipped(tmp_path: Path) -> None:
    """After a SIGKILL at each place of each state: the same trail, models and champions as without a kill."""
    assert killed_often(tmp_path / "killed", PLACES, CYCLES) == len(PLACES)
    place_of(tmp_path / "whole")
    run_until(tmp_path / "whole", CYCLES)
    assert story(tmp_path / "killed") == story(tmp_path / "whole")


def test_the_trail_tells_every_step_in_order(tmp_path: Path) -> None:
    """A cycle that is promoted leaves each state of its way once, then the next begins."""
    way = dict(pairwise([*PROMOTED, "watch"]))
    store = Store(tmp_path / "loop.db")
    steps = {state: lambda cycle, _at: Went(way[cycle.state], "done", cycle.facts) for state in PROMOTED}
    machine = Machine(store, steps)
    for at in range(12):
        machine.advance(at)
    assert [(one.cycle, one.left) for one in store.trail()] == [(1 + n // 6, PROMOTED[n % 6]) for n in range(12)]
    assert store.current(0).id == 3


def test_a_step_that_does_not_look_is_done_twice(tmp_path: Path) -> None:
    """The control: where the gate publishes without a look, a kill behind it leaves two models of one cycle."""
    place = place_of(tmp_path)
    assert run_killed(tmp_path, "gate.done", 1, looks=False)
    run_until(tmp_path, 1, looks=False)
    assert len(place.registry.entries("bus")) == 3


def test_every_state_leads_on_and_back_to_watching() -> None:
    """No state is a dead end, and none but those that follow may be entered."""
    assert set(NEXT) == set(STATES)
    assert all(NEXT[one] for one in STATES)
    for before, after in pairwise([*PROMOTED, "watch"]):
        assert after in NEXT[before]


def test_a_jump_over_a_state_is_refused(tmp_path: Path) -> None:
    """A step cannot lead from watching to a promotion."""
    store = Store(tmp_path / "loop.db")
    with pytest.raises(ValueError, match="watch does not lead to promote"):
        store.move(store.current(0), Went("promote", "at once", Facts()), 1)


def test_a_second_process_cannot_move_the_same_cycle(tmp_path: Path) -> None:
    """Who holds an old view of the cycle is told so, and nothing is moved."""
    store, other = Store(tmp_path / "loop.db"), Store(tmp_path / "loop.db")
    before = other.current(0)
    store.move(store.current(0), Went("retrain", "first", Facts()), 1)
    with pytest.raises(DataError, match="one loop at a time"):
        other.move(before, Went("retrain", "second", Facts()), 1)
    assert len(other.trail()) == 1


def test_a_state_can_wait_for_a_person(tmp_path: Path) -> None:
    """A promotion that waits is not made before it is approved, and then once."""
    place = place_of(tmp_path)
    store = Store(place.folder / "loop.db")
    machine = Machine(store, killable_steps(place), frozenset({"promote"}))
    machine.run_once(1)
    assert store.current(2).state == "promote"
    assert place.registry.aliases("bus")["champion"] == 1
    store.approve("promote")
    machine.advance(3)
    assert place.registry.aliases("bus")["champion"] == 2


def test_only_the_state_that_waits_can_be_approved(tmp_path: Path) -> None:
    """An approval of another state than the present one is refused with where the loop is."""
    store = Store(tmp_path / "loop.db")
    store.current(0)
    with pytest.raises(UsageError, match="cycle 1 is in watch, not in promote"):
        store.approve("promote")


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    """A file that a newer program wrote is left alone."""
    store = Store(tmp_path / "loop.db")
    store._db.execute("PRAGMA user_version = 9")
    store.close()
    with pytest.raises(DataError, match="version 9"):
        Store(tmp_path / "loop.db")
