"""Where the time of a reading goes, stage by stage, and how near that is to what the machine could do."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np

from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.feedback.decisions import decision_table
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.decode import Decoder
from benchmarks.stream import Feed, as_batch, as_json
from benchmarks.timing import cpu_ns, quiet
from benchmarks.world import BATCH, WARM_ROUNDS, World, Worlds, without_limits

BATCHES = 120
LIMIT_NS = {"default": (175.0, 300.0), "wide": (300.0, 400.0)}
"""What C++ or Rust would take for a reading in JSON, estimated: 110-190 to parse it where it lies, 15-30 for the slot,
60-100 for 60 features (a third of it for the evidence alone), 50 for PCA (10-20 for the distance), 15 for the threshold
and 5 for decisions; 10,000 vehicles, on a Zen 3 core of 2.45 GHz."""


class Twins(NamedTuple):
    """Engines over the same stream of which each does a little less, so that a difference is a stage."""

    whole: Engine
    no_limits: Engine
    no_context: Engine


def run(worlds: Worlds) -> list[str]:
    """Lines for the default and the wide model."""
    return [line for name in ("default", "wide") for line in lines(name, stages(worlds[name]))]


def lines(name: str, ns: dict[str, float]) -> list[str]:
    """The stages of one model in a line each, then the sum against the limit."""
    total = sum(ns.values())
    low, high = LIMIT_NS[name]
    shares = [f"{stage:54} {value:7.0f} ns  {value / total:5.0%}" for stage, value in ns.items()]
    limit = f"{total:.0f} ns a reading; the limit is put at {low:.0f}-{high:.0f} ns"
    return [f"{name}:", *shares, f"{limit}: {low / total:.0%}-{high / total:.0%} of its speed"]


def stages(world: World) -> dict[str, float]:
    """Median CPU nanoseconds a reading of each stage, batches of 1,024, all in turn on the same readings."""
    decoder, engine, twins = Decoder(world.fleet), world.engine(), _twins(world)
    scorer: Any = world.model.scorer
    feed, offsets = Feed(10_000, len(world.fleet.signals), seed=3), np.arange(BATCH)
    for count in feed.rounds(WARM_ROUNDS):
        batch = as_batch(feed.take(count))
        engine.decide(batch)
        for twin in twins:
            twin.features(batch)
    samples: list[list[float]] = []
    with quiet():
        for _ in range(BATCHES):
            messages = as_json(feed.take(BATCH))
            kept: dict[str, Any] = {}
            times = [_timed(kept, "batch", lambda: decoder.decode(messages, offsets).batch)]  # noqa: B023
            batch = kept["batch"]
            times.append(_timed(kept, "slots", lambda: engine.unknown(batch.vehicles)))  # noqa: B023
            for name, twin in zip(Twins._fields, twins, strict=True):
                times.append(_timed(kept, name, lambda: twin.features(batch)))  # noqa: B023
            features = kept["whole"].features
            times.append(_timed(kept, "score", lambda: scorer.score(features)))  # noqa: B023
            times.append(_timed(kept, "outcome", lambda: engine.decide(batch)))  # noqa: B023
            times.append(_timed(kept, "log", lambda: _table(world, kept["outcome"], batch)))  # noqa: B023
            samples.append(times)
    decode, slot, first, no_limits, no_context, score, decide, log = np.median(samples[10:], axis=0) / BATCH
    return {
        "decode": decode,
        "slot (look-up alone)": slot,
        "quality (first pass less one without limits)": max(first - no_limits, 0.0),
        "context (less one without cohorts and regimes)": max(no_limits - no_context, 0.0),
        "features (what the first pass has left: clock, baseline)": no_context - slot,
        "score": score,
        "threshold, episodes (decide less first pass and score)": decide - first - score,
        "log (decisions as Arrow)": log,
    }


def _timed(kept: dict[str, Any], name: str, work: Any) -> float:
    def call() -> None:
        kept[name] = work()

    return float(cpu_ns(call))


def _table(world: World, outcome: Any, batch: Batch) -> Any:
    return decision_table(outcome, batch, [world.arm], world.fleet, 0)


def _twins(world: World) -> Twins:
    plain = without_limits(world.fleet)
    return Twins(
        Engine(world.fleet, world.frame),
        Engine(plain, world.frame),
        Engine(plain, _without_context(world.frame)),
    )


def _without_context(frame: Frame) -> Frame:
    one = {name: getattr(frame, name)[:1] for name in ("center", "mean", "sd")}
    return msgspec.structs.replace(frame, cohort=None, slope=(), **one)
