"""A simulated fleet under the real loop: readings arrive, a scorer decides them, the autopilot has a look and may be
killed. Scorer and autopilot are processes, forked from a server that has everything loaded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anomaly import fleet as fleets
from anomaly.engine.warm import warm
from anomaly.experiments.state import read_state
from anomaly.registry.store import Registry
from anomaly.service import logs
from anomaly.service.run import Process, run
from anomaly.service.scorer import Options
from anomaly.simulator import SimulationConfig
from anomaly.simulator.files import write
from anomaly.stream import feed as feeds
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.topics import create_topics
from anomaly.telemetry.files import inspect_history
from training.auto import train
from training.history import known_at, split_vehicles
from training.loop.autopilot import steps
from training.loop.file import LoopFile
from training.loop.machine import Machine, Store
from training.loop.place import Place, newest
from training.train import Recipe, publish

DAY_MS = 86_400_000
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.training.real_loop"])


class Plan(NamedTuple):
    """A fleet, what is decided about the loop, the days at which it has a look, and what else happens to readings.

    The first model is trained on the days before `trained`; `spoil` takes the days and values of a signal.
    """

    config: SimulationConfig
    seed: int
    file: LoopFile
    trained: int
    looks: tuple[int, ...]
    spoil: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def noisy(day: np.ndarray, values: np.ndarray, back: float = 115.0) -> np.ndarray:
    """A signal that is noisy in the first month, and again from the day `back` on."""
    rng = np.random.default_rng(0)
    wild = (day < 30) | (day >= back)
    return np.asarray(values + wild * rng.normal(0, NOISE * np.nanstd(values[day < 30]), len(values)))


NOISE = 4.3
NOISY = ("Vehicle.LowVoltageBattery.CurrentVoltage", "Vehicle.OBD.LongTermFuelTrim1")
BETTER = Plan(
    SimulationConfig(name="sample", vehicles=120, days=150, every="12h", start=date(2025, 3, 1)),
    seed=3,
    file=LoopFile(window_days=90.0, holdout_days=14.0, shadow_days=14.0, min_days=10.0, max_days=15.0,
                  label_delay_days=5.0),
    trained=30,
    looks=(90, 111, 131, 147),
)  # fmt: skip
"""A champion that has seen nothing but a cool March, and a challenger that has seen the summer."""
HARMFUL = Plan(
    SimulationConfig(name="sample", vehicles=220, days=130, every="12h", start=date(2025, 3, 1), faults=0.05,
                     season=0.2, upkeep=0.2),
    seed=9,
    file=LoopFile(every_days=7.0, quiet_days=0, window_days=45.0, holdout_days=14.0, shadow_days=7.0, min_days=10.0,
                  max_days=25.0, label_delay_days=4.0),
    trained=30,
    looks=(91, 102, 114, 129),
    spoil=noisy,
)  # fmt: skip
"""A champion that knows how noisy two signals can be, and a challenger that learned from quiet weeks before the noise
comes back."""

DRIFTING = Plan(
    HARMFUL.config,
    seed=5,
    file=LoopFile(every_days=0.0, labels=0, drift_days=5, quiet_days=56, window_days=45.0, holdout_days=14.0),
    trained=42,
    looks=(105, 119),
    spoil=partial(noisy, back=107.0),
)  # fmt: skip
"""The noise comes back, and the champion does not mind: only who looks at the signals can know."""


class World(NamedTuple):
    """A plan in a folder: `sample/` with the fleet's files, the log, the models and the run."""

    plan: Plan
    folder: Path

    @property
    def place(self) -> Place:
        """Where the loop works."""
        fleet = fleets.load(self.folder / "sample" / "fleet.toml")
        past = inspect_history(self.folder / "past.parquet", fleet).batch
        return Place(fleet, Registry(self.folder / "models"), self.folder / "run", self.plan.file, past)


def make_world(plan: Plan, folder: Path) -> World:
    """The fleet's files, its first model, and a log with all events and labels, each of which acts at its own time."""
    write(plan.config, plan.seed, folder / "sample")
    _forget_weather(folder / "sample" / "fleet.toml")
    table = pq.read_table(folder / "sample" / "readings.parquet")
    day = (table["ts"].to_numpy() - plan.config.start_ms) / DAY_MS
    for name in NOISY if plan.spoil is not None else ():
        values = plan.spoil(day, table[name].to_numpy().astype(np.float64)) if plan.spoil else day
        place = table.column_names.index(name)
        table = table.set_column(
            place, name, pa.array(values, mask=np.isnan(values)).cast(table.schema.field(name).type)
        )
    edges = [-1.0, float(plan.trained), *map(float, plan.looks)]
    names = ["past", *map(str, range(len(plan.looks)))]
    for name, since, until in zip(names, edges, edges[1:], strict=False):
        pq.write_table(table.filter(pa.array((day >= since) & (day < until))), folder / f"{name}.parquet")
    world = World(plan, folder)
    _first_model(world)
    fleet = world.place.fleet
    log = EmbeddedLog(folder / "stream.db")
    create_topics(log, fleet)
    for topic, read in (("vehicle-events", feeds.events), ("labels", feeds.labels)):
        file = folder / "sample" / f"{topic.removeprefix('vehicle-')}.parquet"
        _send(log, read(file, fleet), fleet.topic(topic))
    log.close()
    return world


def _forget_weather(fleet_file: Path) -> None:
    """A fleet file that does not say that load and weather matter, so that a season is something to learn."""
    lines = fleet_file.read_text(encoding="utf-8").splitlines(keepends=True)
    fleet_file.write_text("".join(line for line in lines if not line.startswith("regime")), encoding="utf-8")


def _first_model(world: World) -> None:
    place = world.place
    assert place.history is not None
    history = known_at(place.fleet, place.history, [], [], int(place.history.ts.max()))
    split = split_vehicles(history.names, 0, None)
    publish(place.registry, Recipe(place.fleet, history, split, 0), train(place.fleet, history, split, 0))


def _send(log: EmbeddedLog, feed: feeds.Feed, topic: str) -> None:
    found, sink = log.topic(topic), log.sink()
    assert found is not None
    for _ in feeds.send(feed, sink, topic, found.partitions, feeds.Pace()):
        pass
    sink.close()


def pass_time(world: World, look: int) -> None:
    """The readings up to the day of this look come onto the log, and a scorer decides them."""
    fleet = world.place.fleet
    log = EmbeddedLog(world.folder / "stream.db")
    _send(log, feeds.readings(world.folder / f"{look}.parquet", fleet), fleet.topic("telemetry"))
    log.close()
    assert _ended(_started(_score, world.folder)) == 0


def look(world: World, killed_at: str = "", killed_after_s: float | None = None) -> bool:
    """A pass of the autopilot, killed at a place of the machine, or after some time; answers whether it was. Whatever
    became of it, there is a champion that can be loaded."""
    process = _started(_look, world, killed_at)
    if killed_after_s is not None:
        time.sleep(killed_after_s)
        process.kill()
    code = _ended(process)
    assert code in (0, -signal.SIGKILL), code
    place = world.place
    place.registry.load(place.registry.resolve(place.champion()))
    return code != 0


def look_killed(world: World, places: Sequence[str]) -> int:
    """Passes that are killed at each of the places in turn, as far as they come, then one that is left alone; answers
    how many were killed."""
    killed = 0
    while killed < len(places) and look(world, places[killed]):
        killed += 1
    if killed == len(places):
        look(world)
    return killed


def look_swept(world: World, step_s: float) -> int:
    """Passes that are killed after a time that grows by `step_s`, until one comes to its end; answers how many were."""
    killed = 0
    while look(world, killed_after_s=(killed + 1) * step_s):
        killed += 1
    return killed


def story(world: World) -> object:
    """What was done: the trail with its reasons, the models, whom the champion was, the aliases and the experiments."""
    registry, folder = world.place.registry, world.folder / "run" / "experiments"
    digests = [registry.manifest(entry).digest for entry in registry.entries("sample")]
    champions = [change.number for change in registry.history("sample") if change.alias == "champion"]
    states = [read_state(folder, path.stem) for path in sorted(folder.glob("*.toml"))]
    return world.place.trail, digests, champions, registry.aliases("sample"), states


def _started(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = _context.Process(target=target, args=arguments, daemon=False)
    process.start()
    return process


def _ended(process: BaseProcess, timeout_s: float = 120.0) -> int:
    process.join(timeout_s)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode is not None, "the process did not end"
    return process.exitcode


def _score(folder: Path) -> None:
    logs.configure("error")
    fleet = fleets.load(folder / "sample" / "fleet.toml")
    options = Options(folder / "run", fleet.name, stop_at_end=True)
    log = EmbeddedLog(folder / "stream.db")
    run(fleet, log, Process(folder / "models", options, 0))
    log.close()


def _look(world: World, killed_at: str) -> None:
    def passed(where: str) -> None:
        if where == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    place = world.place
    at = newest(place)
    assert at is not None
    store = Store(place.folder / "loop.db")
    Machine(store, steps(place), passed=passed).run_once(at)
    store.close()


warm()
