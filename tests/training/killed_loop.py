"""A loop whose steps have real effects on a real registry, and a process of it that is killed at a named place."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from anomaly.disk import replace_file
from anomaly.fleet import Fleet
from anomaly.registry.manifest import model_digest, sha256
from anomaly.registry.store import Registry
from tests.detectors.onnx_files import distance
from tests.registry.stock import FRAME, manifest, publish
from training.loop import autopilot
from training.loop.file import LoopFile
from training.loop.machine import Cycle, Machine, State, Step, Store, Went
from training.loop.place import Place

FLEET = {"fleet": {"name": "bus", "vehicle": "v", "time": "t", "time_unit": "s"}, "signals": {"a": {"unit": "V"}}}


def place_of(folder: Path) -> Place:
    """Where the loop works: a registry with a champion in `folder`."""
    registry = Registry(folder / "models")
    if not registry.entries("bus"):
        registry.set_alias("bus", "champion", publish(registry), "the first model")
    return Place(msgspec.convert(FLEET, Fleet), registry, folder / "run", LoopFile())


def killable_steps(place: Place, looks: bool = True) -> Mapping[State, Step]:
    """Odd cycles are promoted, even ones rolled back; `looks` False: the gate publishes whatever is there already."""

    def retrain(cycle: Cycle, _at: int) -> Went:
        place.folder.mkdir(parents=True, exist_ok=True)
        replace_file(place.folder / f"{cycle.id}.txt", str(1.0 + cycle.id).encode())
        return Went("gate", "trained", cycle.facts)

    def gate(cycle: Cycle, _at: int) -> Went:
        scale = float((place.folder / f"{cycle.id}.txt").read_text(encoding="utf-8"))
        number = autopilot.published(place, _digest(scale)) if looks else None
        number = number or publish(place.registry, scale=scale)
        return Went("shadow", "passed", msgspec.structs.replace(cycle.facts, number=number))

    def alias(cycle: Cycle, name: str) -> None:
        place.registry.set_alias("bus", "shadow" if name == "shadow" else "challenger", cycle.facts.number, name)

    def shadow(cycle: Cycle, _at: int) -> Went:
        alias(cycle, "shadow")
        return Went("experiment", "no harm", cycle.facts)

    def experiment(cycle: Cycle, _at: int) -> Went:
        alias(cycle, "challenger")
        return Went("promote" if cycle.id % 2 else "roll_back", "read", cycle.facts)

    real = autopilot.steps(place)
    return {
        "watch": lambda cycle, _at: Went("retrain", "it is time", cycle.facts),
        "retrain": retrain,
        "gate": gate,
        "shadow": shadow,
        "experiment": experiment,
        "promote": real["promote"],
        "roll_back": real["roll_back"],
    }


def _digest(scale: float) -> str:
    """The digest that the registry gives the model of this scale."""
    return model_digest(distance(scale=scale), sha256(FRAME), manifest().deciding)


def run_killed(folder: Path, killed_at: str, cycles: int, looks: bool = True) -> bool:
    """Run the loop in a process of its own that dies at `killed_at`; answers whether it came there."""
    child = os.fork()
    if child == 0:
        try:
            run_until(folder, cycles, killed_at, looks)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def run_until(folder: Path, cycles: int, killed_at: str = "", looks: bool = True) -> None:
    """Run the loop until so many cycles are over."""
    place = place_of(folder)
    store = Store(place.folder / "loop.db")

    def passed(where: str) -> None:
        if where == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    machine = Machine(store, killable_steps(place, looks), passed=passed)
    while store.current(0).id <= cycles:
        machine.advance(store.current(0).since + 1)
    store.close()


def killed_often(folder: Path, places: Sequence[str], cycles: int) -> int:
    """Kill the loop at each of the places in turn, then let it end; answers how many kills there were."""
    place, killed = place_of(folder), 0
    for where in places:
        killed += run_killed(folder, where, cycles)
        place.registry.load(place.registry.resolve("bus@champion"))
    run_until(folder, cycles)
    return killed


def story(folder: Path) -> object:
    """What was done: the trail, the models, whom the champion was, which aliases are left."""
    place = place_of(folder)
    store = Store(place.folder / "loop.db")
    trail = [(one.cycle, one.left, one.entered) for one in store.trail()]
    store.close()
    digests = [place.registry.manifest(entry).digest for entry in place.registry.entries("bus")]
    champions = [change.number for change in place.registry.history("bus") if change.alias == "champion"]
    return trail, digests, champions, place.registry.aliases("bus")
