"""Peers in the same run: River with the same work a reading, and detectors that others bring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.goals import Row
from benchmarks.river_per_event import RiverPerEvent
from benchmarks.stream import HOUR_MS, REGIME, Feed, as_json, names
from benchmarks.timing import cpu_ns, in_turns, rate
from benchmarks.world import BATCH, WARM_ROUNDS, Way, World, Worlds, way

REPEATS = 40
RIVER_MESSAGES = 128
AGREED, CLOSE = 0.999, 1e-3


class Agreement(NamedTuple):
    """Of `rows` readings, `alarms` alarmed here; `share` have the same alarm and a score that is close there."""

    rows: int
    alarms: int
    share: float


class Disagreement(AssertionError):
    """The peer does something else: its speed is no comparison."""


def run(worlds: Worlds) -> list[Row]:
    """All rows with a peer of their own."""
    return [*river(worlds, "default"), *river(worlds, "wide"), *detectors(worlds)]


def river(worlds: Worlds, name: str, vehicles: int = 10_000) -> list[Row]:
    """Ours and River per event in turn, both warm, with as many vehicles; only if they agree."""
    world = worlds[name]
    agreed = agreement(world)
    if agreed.share < AGREED or not agreed.alarms:
        raise Disagreement(f"River per event, {name}: {agreed}")
    ours, theirs = way(world, vehicles), RiverPerEvent(world)
    feed = Feed(vehicles, len(world.fleet.signals), seed=3)
    for count in feed.rounds(WARM_ROUNDS):
        theirs.run(as_json(feed.take(count)))

    def turn() -> float:
        first, messages = as_json(feed.take(RIVER_MESSAGES)), as_json(feed.take(RIVER_MESSAGES))
        theirs.run(first)
        return cpu_ns(lambda: theirs.run(messages)) / RIVER_MESSAGES

    found = in_turns({"ours": ours.turn, "theirs": turn}, REPEATS)
    ratio = float(np.median(found["theirs"] / found["ours"]))
    note = f"{rate(found['ours']):,.0f} against {rate(found['theirs']):,.0f}/s; {agreed.share:.2%} of {agreed.rows:,}"
    return [Row(f"river-{name}", ratio, note=f"{note} rows agree, {agreed.alarms} alarms")]


def agreement(world: World, vehicles: int = 420, rounds: int = 120) -> Agreement:
    """On five days of a stream with faults, gaps and impossible values, reading by reading."""
    ours, theirs = Way(world, Feed(vehicles, seed=5)), RiverPerEvent(world)
    same = count = alarms = 0
    for messages in troubled(world, vehicles, rounds):
        table: Any = ours.decide(messages)
        score, alarm = np.array(table["score"]), np.array(table["alarm"])
        peer = [decided for decided in theirs.run(messages) if decided is not None]
        expected = np.array([decided.score for decided in peer])
        close = np.abs(score - expected) <= CLOSE * np.maximum(1.0, np.abs(expected))
        same += int((close & (alarm == np.array([decided.alarm for decided in peer]))).sum())
        count, alarms = count + len(peer), alarms + int(alarm.sum())
    return Agreement(count, alarms, same / count)


def troubled(world: World, vehicles: int, rounds: int) -> Iterator[list[bytes]]:
    """One round of all vehicles at a time: one in twenty fails near the end, a value in 200 is missing or impossible.

    The peer knows no lasting shift, so that the faults end before one is.
    """
    feed, rng = Feed(vehicles, len(world.fleet.signals), step_ms=HOUR_MS, seed=5), np.random.default_rng(6)
    for number in range(rounds):
        readings = feed.take(vehicles)
        values, signals = readings.values, feed.signals
        failing = (readings.who % 20 == 3) & (number >= rounds - 15)
        values[failing, 0] += 120.0
        values[:, :signals][rng.random((vehicles, signals)) < 0.002] = 99_999.0
        values[:, :signals][rng.random((vehicles, signals)) < 0.005] = np.nan
        yield [message.replace(b":nan", b":null") for message in as_json(readings)]


def detectors(worlds: Worlds) -> list[Row]:
    """Detectors of River, PySAD, PyOD and pandas, each in turn with ours on the same kind of stream."""
    default, wide = way(worlds["default"]), way(worlds["wide"])
    rows = [_against(key, peer, default, turn) for key, peer, turn in (half_space_trees(), *pysad(), notebook())]
    once, many = pyod()
    single = in_turns({"ours": lambda: wide.turn(1), "theirs": once}, 200)
    alone = float(np.median(single["theirs"]) / np.median(single["ours"]))
    rows.append(Row("pyod-1", alone, note=_speeds(single)))
    rows.append(_against("pyod-1024", "", wide, many))
    return rows


def _against(key: str, peer: str, ours: Way, theirs: Callable[[], float]) -> Row:
    found = in_turns({"ours": ours.turn, "theirs": theirs}, 10, 2)
    return Row(key, float(np.median(found["theirs"]) / np.median(found["ours"])), peer, note=_speeds(found))


def _speeds(found: dict[str, NDArray[np.float64]]) -> str:
    return f"{rate(found['ours']):,.0f} against {rate(found['theirs']):,.0f}/s"


def half_space_trees() -> tuple[str, str, Callable[[], float]]:
    """River's own: scaled half-space trees a vehicle behind a quantile filter, 100 vehicles, each past its window."""
    from river import anomaly, preprocessing

    decode = msgspec.json.Decoder().decode
    fleet: dict[str, Any] = {}
    feed = Feed(100, seed=7)

    def one(message: bytes) -> bool:
        reading = decode(message)
        model = fleet.get(reading["vehicle"])
        if model is None:
            trees = anomaly.QuantileFilter(anomaly.HalfSpaceTrees(window_size=20, seed=1), q=0.95)
            model = fleet[reading["vehicle"]] = preprocessing.MinMaxScaler() | trees
        signals = reading["signals"]
        found = model["QuantileFilter"].classify(model.score_one(signals))
        model.learn_one(signals)
        return bool(found)

    for message in as_json(feed.take(100 * 25)):
        one(message)

    def turn() -> float:
        messages = as_json(feed.take(100))
        return cpu_ns(lambda: [one(message) for message in messages]) / 100

    return "halfspace", "", turn


def pysad() -> list[tuple[str, str, Callable[[], float]]]:
    """PySAD's LODA and half-space trees: one model for the whole stream, decoded values of 10 signals."""
    from pysad.models import LODA, HalfSpaceTrees

    feed = Feed(10_000, seed=7)
    first = feed.take(512).values[:, :10]
    trees = HalfSpaceTrees(feature_mins=first.min(axis=0), feature_maxes=first.max(axis=0))
    return [("loda", "", _partial(LODA(), feed)), ("pysad-hst", "", _partial(trees, feed))]


def _partial(model: Any, feed: Feed) -> Callable[[], float]:
    for row in feed.take(512).values[:, :10]:
        model.fit_score_partial(row)

    def turn() -> float:
        rows = feed.take(64).values[:, :10]
        return cpu_ns(lambda: [model.fit_score_partial(row) for row in rows]) / 64

    return turn


def pyod() -> tuple[Callable[[], float], Callable[[], float]]:
    """PyOD's PCA on 60 columns that are there already, at batch 1 and at 1,024: no decode, no state, no threshold."""
    from pyod.models.pca import PCA

    rows = np.random.default_rng(0).normal(size=(5_000, 60))
    model = PCA().fit(rows)
    one, many = rows[:1], rows[:BATCH]
    return (
        lambda: float(cpu_ns(lambda: model.decision_function(one))),
        lambda: cpu_ns(lambda: model.decision_function(many)) / BATCH,
    )


def notebook() -> tuple[str, str, Callable[[], float]]:
    """pandas as in a notebook: the history of 1,000 vehicles grouped, smoothed, and its distance, all at once."""
    import pandas as pd

    readings = Feed(1_000, seed=7).take(40_000)
    columns = names(10)
    history = pd.DataFrame(readings.values, columns=[*columns, *REGIME]).assign(vehicle=readings.who)
    precision = np.linalg.inv(np.cov(history[columns].to_numpy().T))

    def work() -> NDArray[np.float64]:
        own = history[columns] - history.groupby("vehicle")[columns].transform(lambda part: part.head(30).mean())
        smooth = own.groupby(history["vehicle"]).ewm(alpha=0.05).mean().to_numpy()
        return np.sqrt(np.einsum("ij,jk,ik->i", smooth, precision, smooth))

    return "pandas", "", lambda: cpu_ns(work) / len(readings.who)
