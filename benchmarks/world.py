"""Fleets with a model each, trained as `anomaly train` does, and the way from bytes to decisions of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly import fleet as fleets
from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm, Checks, Model
from anomaly.feedback.decisions import decision_table
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.rollout import Rollouts
from anomaly.telemetry.decode import Decoder
from benchmarks.stream import HOUR_MS, Encode, Feed, Readings, Shape, as_batch, as_json, fleet
from benchmarks.timing import cpu_ns, quiet

BATCH = 1_024
WARM_ROUNDS = 31
RUN = 9
SHAPES = {
    "default": Shape(),
    "wide": Shape(family="pca", wide=True),
    "forest": Shape(family="isolation-forest", wide=True),
    "autoencoder": Shape(family="autoencoder", wide=True),
    "signals-100": Shape(signals=100),
    "signals-300": Shape(signals=300),
}


class World(NamedTuple):
    """A fleet, its champion and the folder with `fleet.toml` and `models/`."""

    folder: Path
    fleet: Fleet
    frame: Frame
    arm: Arm

    @property
    def model(self) -> Model:
        """The champion."""
        return self.arm.model

    @property
    def registry(self) -> Registry:
        """Where it was published."""
        return Registry(self.folder / "models")

    def engine(self) -> Engine:
        """A new engine that scores with the champion."""
        engine = Engine(self.fleet, self.frame)
        engine.use([self.arm], lambda _vehicle: 0)
        return engine

    def unchecked(self) -> World:
        """The same without cohorts, limits of signals and kinds of alarm beside faults and abrupt ones."""
        fleet = without_limits(self.fleet)
        alerts = msgspec.structs.replace(fleet.alerts, lasting_after=0)
        context = msgspec.structs.replace(fleet.context, cohort=None)
        return self._replace(
            fleet=msgspec.structs.replace(fleet, alerts=alerts, context=context),
            frame=msgspec.structs.replace(self.frame, cohort=None),
            arm=self.arm._replace(model=self.model._replace(checks=Checks(abrupt=self.model.checks.abrupt))),
        )


def without_limits(fleet: Fleet) -> Fleet:
    """The same fleet file without anything said of its signals but their names."""
    plain = {name: type(signal)() for name, signal in fleet.signals.items()}
    return msgspec.structs.replace(fleet, signals=plain)


class Worlds:
    """The worlds of one run, each trained when it is asked for first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, World] = {}

    def __getitem__(self, name: str) -> World:
        if name not in self._made:
            train(SHAPES[name], self._folder / name)
            self._made[name] = load(self._folder / name)
        return self._made[name]

    @property
    def folder(self) -> Path:
        """For what a benchmark writes."""
        return self._folder


def train(shape: Shape, folder: Path) -> None:
    """Fleet file and champion, from ten days of healthy vehicles, one reading an hour."""
    from anomaly.cli.config import to_toml
    from training.fit import fit
    from training.history import make_history, split_vehicles
    from training.train import Recipe, publish

    made = fleet(shape)
    folder.mkdir(parents=True)
    (folder / "fleet.toml").write_text(to_toml(made), encoding="utf-8")
    vehicles = 400 if shape.signals <= 10 else 100
    feed = Feed(vehicles, shape.signals, step_ms=HOUR_MS, seed=1)
    history = make_history(made, as_batch(feed.take(vehicles * 240)), [], [], [])
    split = split_vehicles(history.names, 0, None)
    publish(Registry(folder / "models"), Recipe(made, history, split, 0), fit(made, history, split, 0))


def load(folder: Path) -> World:
    """The world in `folder`, as the service loads it."""
    made = fleets.load(folder / "fleet.toml")
    rollout, frame = Rollouts(Registry(folder / "models"), made.name, folder / "experiments").read()
    return World(folder, made, frame, rollout.arms[0])


class Way:
    """Bytes in to decisions as Arrow batches in memory: one engine and the stream that it is on."""

    def __init__(self, world: World, feed: Feed, encode: Encode = as_json, fleet: Fleet | None = None) -> None:
        self.world, self.feed, self._encode = world, feed, encode
        self._fleet = fleet or world.fleet
        self.engine = world.engine()
        self._decoder = Decoder(self._fleet)
        self._offsets = np.arange(65_536)

    def warm(self, rounds: int = WARM_ROUNDS) -> Way:
        """Let every vehicle send so many readings, past its burn-in if nothing else is said."""
        for count in self.feed.rounds(rounds):
            self.engine.decide(as_batch(self.feed.take(count)))
        return self

    def messages(self, count: int = BATCH) -> Sequence[bytes]:
        """The next readings of the stream as messages."""
        return self._encode(self.feed.take(count))

    def decide(self, messages: Sequence[bytes]) -> object:
        """The whole way; answers the table."""
        batch = self._decoder.decode(messages, self._offsets[: len(messages)]).batch
        return decision_table(self.engine.decide(batch), batch, [self.world.arm], self._fleet, 0)

    def turn(self, count: int = BATCH) -> float:
        """CPU nanoseconds a reading over a run of batches as they come at full speed, one after the other."""
        return self.run([self.messages(count) for _ in range(RUN)], count)

    def run(self, batches: Sequence[Sequence[bytes]], count: int = BATCH) -> float:
        """CPU nanoseconds a reading of these batches of `count` readings, one after the other; the first does not
        count, as what made the messages left its own in the caches."""
        self.decide(batches[0])
        return cpu_ns(lambda: [self.decide(messages) for messages in batches[1:]]) / ((len(batches) - 1) * count)

    def batches(self, count: int) -> NDArray[np.float64]:
        """CPU nanoseconds of each of so many batches, one after the other."""
        made = [self.messages() for _ in range(count)]
        with quiet():
            return np.array([cpu_ns(lambda m=m: self.decide(m)) for m in made])  # type: ignore[misc]


def way(world: World, vehicles: int = 10_000, encode: Encode = as_json, seed: int = 3, **fed: object) -> Way:
    """A warm way; `fed` is what else Feed takes."""
    signals = len(world.fleet.signals)
    return Way(world, Feed(vehicles, signals, seed=seed, **fed), encode).warm()  # type: ignore[arg-type]


__all__ = ["BATCH", "SHAPES", "Readings", "Way", "World", "Worlds", "load", "train", "way"]
