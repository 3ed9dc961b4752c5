"""What the kernels are given of a fleet file and of arms, and room for what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from anomaly.engine import layout
from anomaly.engine.events import Event
from anomaly.engine.frame import Frame
from anomaly.engine.layout import Limits, Observed, Policies, Settled, Waiting
from anomaly.engine.model import Floats, Model
from anomaly.engine.outcome import NO_EPISODES, Episodes, Evidence
from anomaly.fleet import Fleet


def limits(fleet: Fleet) -> Limits:
    """What the quality gate knows of a fleet's signals."""
    signals = list(fleet.signals.values())
    number = [s.missing if isinstance(s.missing, float) else np.nan for s in signals]
    return Limits(
        low=np.array([-np.inf if s.min is None else s.min for s in signals], np.float32),
        high=np.array([np.inf if s.max is None else s.max for s in signals], np.float32),
        max_step=np.array([np.inf if s.max_step is None else s.max_step for s in signals], np.float32),
        stuck_after=np.array([s.stuck_after for s in signals], np.int64),
        fill=np.array(number, np.float32),
        previous=np.array([s.missing == "previous" for s in signals], np.bool_),
        silent_after=fleet.quality.silent_after,
        max_ahead=0 if fleet.fleet.time_unit == "cycles" else fleet.ticks(fleet.quality.max_ahead),
        grace=0 if fleet.fleet.time_unit == "cycles" else fleet.ticks(fleet.quality.grace),
    )


def policies(models: Sequence[Model], rows: Sequence[int]) -> Policies:
    """The threshold rules of the models of arms; `rows` are those of `quantiles` that are theirs."""
    policy = [model.policy for model in models]

    def column(values: Sequence[float]) -> Floats:
        return np.array(values, np.float32)

    return Policies(
        k=column([model.k for model in models]),
        q_fleet=column([model.q_fleet for model in models]),
        low=column([p.low for p in policy]),
        high=column([p.high for p in policy]),
        up=column([float(np.exp(p.rate * p.quantile)) for p in policy]),
        down=column([float(np.exp(-p.rate * (1.0 - p.quantile))) for p in policy]),
        gate=column([p.gate for p in policy]),
        raised=column([p.raised for p in policy]),
        model=np.array(rows, np.int64),
        k_abrupt=column([model.checks.abrupt for model in models]),
        k_born_ill=column([model.checks.born_ill for model in models]),
        k_silence=column([model.checks.silence for model in models]),
    )


def waiting(events: Sequence[Event], after: Sequence[int], signals: int) -> Waiting:
    """Events that wait, chained by `after`; what they undo is not said yet."""
    count = len(events)
    about = np.zeros((count, signals), np.bool_)
    for position, event in enumerate(events):
        about[position, list(event.signals) or slice(None)] = True
    return Waiting(
        ts=np.array([event.ts for event in events], np.int64),
        after=np.array(after, np.int32),
        action=np.array([event.action for event in events], np.int64),
        until=np.array([event.until for event in events], np.int64),
        signals=about,
        undoes=np.full(count, -1, np.int64),
        kept=np.zeros((count, signals), np.float32),
        kept_ts=np.full(count, layout.NEVER, np.int64),
    )


def observed(count: int, waiting: int, frame: Frame) -> Observed:
    """Room for what the first pass says of `count` readings, with `waiting` events."""
    signals = len(frame.signals)
    return Observed(
        status=np.zeros(count, np.uint8),
        features=np.zeros((count, frame.width), np.float32),
        center=np.zeros((count, signals), np.float32),
        regime=np.zeros(count, np.int16),
        reason=np.zeros((count, signals), np.uint8),
        warm=np.zeros(count, np.float32),
        ill=np.zeros(count, np.float32),
        note=np.zeros(count, np.uint16),
        until=np.zeros(count, np.int64),
        since=np.zeros(count, np.int64),
        rhythm=np.zeros(count, np.float32),
        event_row=np.zeros(waiting, np.int64),
        event=np.zeros(waiting, np.int64),
        scratch=np.zeros((5, signals), np.float32),
        masked=np.zeros(layout.REASONS, np.int64),
    )


def first(observed: Observed, count: int) -> Observed:
    """What is said of the first `count` readings alone."""
    if count == len(observed.status):
        return observed
    whole = {"event_row", "event", "scratch", "masked"}
    columns = {name: column if name in whole else column[:count] for name, column in observed._asdict().items()}
    return Observed(**columns)


def settled(count: int) -> Settled:
    """Room for what the second pass says of `count` readings."""
    most = 8 * count
    return Settled(
        score=np.zeros(count, np.float32),
        threshold=np.zeros(count, np.float32),
        level=np.zeros(count, np.float32),
        kind=np.zeros(count, np.uint8),
        kinds=np.zeros(count, np.uint16),
        alarm=np.zeros(count, np.bool_),
        arm=np.zeros(count, np.int16),
        start=np.zeros(count, np.int64),
        nth=np.zeros(count, np.int64),
        unconfirmed=np.zeros(count, np.uint8),
        change_row=np.empty(most, np.int64),
        change_kind=np.empty(most, np.uint8),
        change=np.empty(most, np.uint8),
        change_time=np.empty((most, 5), np.int64),
        change_level=np.empty(most, np.float32),
        silence_row=np.empty(2 * count, np.int64),
        silence=np.empty(2 * count, np.uint8),
        silence_start=np.empty(2 * count, np.int64),
        counts=np.zeros(2, np.int64),
    )


@cache
def no_evidence(signals: int) -> Evidence:
    """That of a batch in which nothing is wrong."""
    rows, shares = np.zeros(0, np.int64), np.zeros((0, signals), np.float32)
    return Evidence(rows, shares, shares, np.zeros(0, np.int16), np.zeros((0, signals), np.bool_))


def episodes(settled: Settled) -> Episodes:
    """The changes of episodes."""
    count = int(settled.counts[0])
    if not count:
        return NO_EPISODES
    row = settled.change_row[:count].copy()
    times = settled.change_time[:count]
    return Episodes(
        row=row,
        kind=settled.change_kind[:count].copy(),
        change=settled.change[:count].copy(),
        start=times[:, 0].copy(),
        end=times[:, 1].copy(),
        peak=times[:, 2].copy(),
        level=settled.change_level[:count].copy(),
        alarms=times[:, 3].copy(),
        arm=settled.arm[row],
        onset=times[:, 4].copy(),
    )
