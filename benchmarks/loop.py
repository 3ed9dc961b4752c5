"""The autopilot, killed: at each place of each state, against the same loop left alone, with stand-ins a hundred times
and in the real cycle of a simulated fleet, there at any moment too."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.world import Worlds
from tests.training import real_loop
from tests.training.killed_loop import killed_often, place_of, run_until, story
from tests.training.real_loop import BETTER, HARMFUL, Plan, World, look, look_killed, look_swept, make_world, pass_time
from training.loop.machine import PLACES

KILLS = 105
STEP_S = 0.1
PLANS = {"promoted": BETTER, "rolled back": HARMFUL}


def run(_worlds: Worlds) -> list[str]:
    """How many kills, and whether trail, models, champions and aliases are those of a loop that was left alone."""
    return [_stand_ins(), *(_real(name, plan) for name, plan in PLANS.items())]


def _stand_ins() -> str:
    rounds = KILLS // len(PLACES)
    cycles = 2 * rounds
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        killed = killed_often(Path(folder, "killed"), PLACES * rounds, cycles)
        place_of(Path(folder, "whole"))
        run_until(Path(folder, "whole"), cycles)
        same = story(Path(folder, "killed")) == story(Path(folder, "whole"))
    return _line("stand-ins", f"{killed} kills in {cycles} cycles", same, begin)


def _real(name: str, plan: Plan) -> str:
    """A cycle with everything real: scorer, retraining, gates, shadow, experiment; its end and its experiments too."""
    begin, other = time.perf_counter(), "promote" if plan is HARMFUL else "roll_back"
    places = [place for place in PLACES if not place.startswith(other)]
    with tempfile.TemporaryDirectory() as folder:
        whole, at_places, at_random = (_made(plan, Path(folder, run)) for run in ("whole", "places", "random"))
        killed = swept = 0
        for number in range(len(plan.looks)):
            for world in (whole, at_places, at_random):
                pass_time(world, number)
            look(whole)
            killed += look_killed(at_places, places[killed:])
            swept += look_swept(at_random, STEP_S)
        same = real_loop.story(at_places) == real_loop.story(at_random) == real_loop.story(whole)
        ended = other not in {passage.left for passage in whole.place.trail if passage.cycle == 1}
    said = f"{killed} kills at places and {swept} at moments {STEP_S} s apart in a real cycle that "
    return _line("real", said + (f"was {name}" if ended else f"WAS NOT {name}"), same, begin)


def _made(plan: Plan, folder: Path) -> World:
    folder.mkdir()
    return make_world(plan, folder)


def _line(what: str, said: str, same: bool, begin: float) -> str:
    difference = "no difference" if same else "A DIFFERENCE"
    return f"autopilot, {what}: {said}, {difference} to the loop left alone; {time.perf_counter() - begin:.0f} s"
