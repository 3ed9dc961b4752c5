"""The autopilot, killed a hundred times: at each place of each state in turn, against the same loop left alone."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.world import Worlds
from tests.training.killed_loop import killed_often, place_of, run_until, story
from training.loop.machine import PLACES

KILLS = 105


def run(_worlds: Worlds) -> list[str]:
    """How many kills, and whether trail, models, champions and aliases are those of a loop that was left alone."""
    rounds = KILLS // len(PLACES)
    cycles = 2 * rounds
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        killed = killed_often(Path(folder, "killed"), PLACES * rounds, cycles)
        place_of(Path(folder, "whole"))
        run_until(Path(folder, "whole"), cycles)
        same = story(Path(folder, "killed")) == story(Path(folder, "whole"))
    took = time.perf_counter() - begin
    return [
        f"autopilot: {killed} kills in {cycles} cycles, {'no difference' if same else 'A DIFFERENCE'} to the loop that "
        f"was left alone; {took:.0f} s"
    ]
