"""Bytes in to decisions as Arrow batches in memory: every family and form of input, one batch of each in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.goals import Row
from benchmarks.stream import Feed, Mix, as_arrays, as_arrow, as_batch, as_json, as_msgpack, as_spaced
from benchmarks.timing import Turn, cpu_ns, in_turns, quiet, rate
from benchmarks.world import BATCH, RUN, Way, World, Worlds, way

REPEATS, MANY = 12, 500
FAMILIES = ("default", "wide", "forest", "autoencoder")
MILLION = 1_000_000


def run(worlds: Worlds) -> list[Row]:
    """All rows of the path."""
    rows = [*families(worlds), *checked(worlds), *inputs(worlds), *broken(worlds), *single(worlds), *skew(worlds)]
    return [*rows, *broad(worlds), *million(worlds)]


def families(worlds: Worlds) -> list[Row]:
    """Readings a second of each family, and the spread of a wide batch."""
    ways = {name: way(worlds[name]) for name in FAMILIES}
    found = in_turns({name: each.turn for name, each in ways.items()}, REPEATS)
    forest = sklearn_forest()
    peers = {"forest": ("scikit-learn's forest, score alone", rate(forest))}
    batches = ways["wide"].batches(MANY)
    return [
        *(Row(name, rate(ns), *peers.get(name, ("", None))) for name, ns in found.items()),
        Row("batch-p99", float(np.quantile(batches, 0.99)) / 1e6, note=f"median {np.median(batches) / 1e6:.2f} ms"),
    ]


def sklearn_forest() -> NDArray[np.float64]:
    """Nanoseconds a reading of `score_samples` of a forest of the same size on as wide rows in the same batches."""
    from sklearn.ensemble import IsolationForest

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4_096, 60))
    forest = IsolationForest(n_estimators=100, random_state=0).fit(rows)
    batch = rows[:BATCH]
    return in_turns({"": lambda: cpu_ns(lambda: forest.score_samples(batch)) / BATCH}, 10, 2)[""]


def checked(worlds: Worlds) -> list[Row]:
    """The engine alone, from batches to outcomes, against one without cohorts and checks on the same readings."""
    world = worlds["default"]
    ways = {"whole": way(world), "bare": way(world.unchecked())}

    def turn(each: Way) -> float:
        batches = [as_batch(each.feed.take(BATCH)) for _ in range(RUN)]
        each.engine.decide(batches[0])
        return cpu_ns(lambda: [each.engine.decide(batch) for batch in batches[1:]]) / ((RUN - 1) * BATCH)

    found = in_turns({name: lambda each=each: turn(each) for name, each in ways.items()}, 4 * REPEATS)  # type: ignore[misc]
    whole, bare = (rate(found[name]) for name in ways)
    return [Row("checked", 100 * whole / bare, note=f"{whole:,.0f} against {bare:,.0f} readings/s")]


def inputs(worlds: Worlds) -> list[Row]:
    """Other forms of the same readings into the default model."""
    world = worlds["default"]
    json, packed = way(world), way(world, encode=as_arrays)
    turns: dict[str, Turn] = {"json": json.turn, "arrays": packed.turn}
    for name, encode in (("msgpack", as_msgpack), ("arrow", as_arrow)):
        turns[name] = other(world, name, encode).turn
    found = in_turns(turns, REPEATS)
    plain = rate(found.pop("json"))
    return [Row(name, rate(ns), "the same as JSON", plain) for name, ns in found.items()]


def other(world: World, form: str, encode: Callable[..., Sequence[bytes]]) -> Way:
    """A warm way whose fleet file says another format."""
    stream = msgspec.structs.replace(world.fleet.stream, format=form)
    fleet = msgspec.structs.replace(world.fleet, stream=stream)
    return Way(world, Feed(10_000, seed=3), encode, fleet).warm()


def broken(worlds: Worlds) -> list[Row]:
    """One message in ten cut short, or valid but of an odd shape, against none."""
    world = worlds["default"]
    clean, cut, odd = way(world), way(world), way(world)
    rng = np.random.default_rng(4)

    def spoiled(each: Way, spoil: Callable[[bytes, bytes], bytes]) -> float:
        batches = []
        for _ in range(RUN):
            readings = each.feed.take(BATCH)
            plain, strange = as_json(readings), as_spaced(readings)
            for place in np.flatnonzero(rng.random(BATCH) < 0.1).tolist():
                plain[place] = spoil(plain[place], strange[place])
            batches.append(plain)
        return each.run(batches)

    found = in_turns(
        {
            "clean": clean.turn,
            "broken": lambda: spoiled(cut, lambda plain, _: plain[: int(rng.integers(len(plain)))]),
            "odd": lambda: spoiled(odd, lambda _, strange: strange),
        },
        REPEATS,
    )
    clean_s = rate(found.pop("clean"))
    return [Row(name, 100 * rate(ns) / clean_s, note=f"{rate(ns):,.0f} readings/s") for name, ns in found.items()]


def single(worlds: Worlds) -> list[Row]:
    """One reading alone: after a pause the caches are cold, in a hot loop they are not."""
    each = way(worlds["wide"])

    def paused() -> float:
        messages = each.messages(1)
        time.sleep(0.002)
        return cpu_ns(lambda: each.decide(messages))

    cold = in_turns({"": paused}, 600)[""]
    feeds = [each.messages(1) for _ in range(2_000)]
    with quiet():
        hot = np.array([cpu_ns(lambda m=m: each.decide(m)) for m in feeds])  # type: ignore[misc]
    return [
        Row(key, float(np.median(ns)) / 1e3, note=f"p99 {np.quantile(ns, 0.99) / 1e3:.0f} us")
        for key, ns in (("alone-paused", cold), ("alone-hot", hot))
    ]


def skew(worlds: Worlds) -> list[Row]:
    """Few vehicles send most, or one sends all."""
    world = worlds["wide"]
    ways = {"even": way(world), "zipf": skewed(world, "zipf"), "one-vehicle": skewed(world, "one")}
    found = in_turns({name: each.turn for name, each in ways.items()}, REPEATS)
    even = float(np.median(found.pop("even")))
    return [Row(name, float(np.median(ns)) / even, note=f"{rate(ns):,.0f} readings/s") for name, ns in found.items()]


def skewed(world: World, mix: Mix) -> Way:
    """A way whose 10,000 vehicles are warm by an even mix before the skewed one goes on."""
    each = way(world)
    each.feed.mix = mix
    return each


def broad(worlds: Worlds) -> list[Row]:
    """Many signals a vehicle."""
    ways = {name: way(worlds[name]) for name in ("signals-100", "signals-300")}
    found = in_turns({name: each.turn for name, each in ways.items()}, 25, 2)
    return [Row(name, rate(ns)) for name, ns in found.items()]


def million(worlds: Worlds) -> list[Row]:
    """The same stream with 100 times as many vehicles, in turn with 10,000."""
    rows = []
    for name, key in (("wide", "million-time"), ("default", "million-time-default")):
        few, many = way(worlds[name]), way(worlds[name], MILLION)
        found = in_turns({"few": few.turn, "many": many.turn}, 2 * REPEATS)
        ratio = float(np.median(found["many"] / found["few"]))
        rows.append(Row(key, ratio, note=f"{rate(found['many']):,.0f} readings/s"))
    return rows
