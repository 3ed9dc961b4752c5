"""Ratios that matter, at a third of what `make bench` asks for; no absolute time is asserted."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import mutation, peers, profile
from benchmarks.stream import Feed, as_json
from benchmarks.timing import cpu_ns, in_turns
from benchmarks.world import World, Worlds, way


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The default fleet and its model."""
    return Worlds(tmp_path_factory.mktemp("bench"))["default"]


def test_the_peer_agrees_and_is_far_slower(world: World) -> None:
    """River per event decides as the engine does, with what cohorts did taken off, at an eighth of its speed."""
    agreed = peers.agreement(world, vehicles=140)
    assert agreed.share >= peers.AGREED
    assert agreed.alarms
    ours, theirs = way(world, 2_000), peers.RiverPerEvent(world)
    feed = Feed(2_000, seed=3)

    def turn() -> float:
        messages = as_json(feed.take(128))
        return cpu_ns(lambda: theirs.run(messages)) / 128

    found = in_turns({"ours": ours.turn, "theirs": turn}, 15)
    assert np.median(found["theirs"] / found["ours"]) > 8


def test_skew_and_broken_messages_cost_little(world: World) -> None:
    """One vehicle that sends all, and one message in ten that is cut short, do not stop the stream."""
    even, one, cut = way(world, 2_000), way(world, 2_000), way(world, 2_000)
    one.feed.mix = "one"

    def broken() -> float:
        messages = [m[:100] if row % 10 == 0 else m for row, m in enumerate(cut.messages())]
        return cpu_ns(lambda: cut.decide(messages)) / len(messages)

    found = {
        name: np.median(ns) for name, ns in in_turns({"even": even.turn, "one": one.turn, "cut": broken}, 15).items()
    }
    assert found["one"] < 7.5 * found["even"]
    assert found["cut"] < 6 * found["even"]


def test_every_mutant_is_one_statement_less() -> None:
    """The mutation script finds the statements of the state update, and each source without one of them is another."""
    every = [mutant for file in mutation.FILES for mutant in mutation.mutants(file)]
    assert len(every) > 50
    for mutant in every:
        source = (mutation.ROOT / mutant.file).read_text(encoding="utf-8")
        assert mutation.without(source, mutant.line).count(mutant.text) < mutation.without(source, 0).count(mutant.text)


def test_every_stage_of_the_profile_is_measured(world: World) -> None:
    """No stage is left out because what it is compared with cannot be made of the frame; what takes time, has some."""
    found = profile.stages(world)
    assert len(found) == 8
    assert found["decode"] > 0
    assert found["score"] > 0
