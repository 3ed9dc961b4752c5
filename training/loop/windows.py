"""What a retraining may learn from: the newest past without what is held out, no vehicle heavier than its cap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from anomaly.feedback.history import HEALTHY, UNKNOWN
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label, VehicleEvent
from training.history import History, known_at


class Spans(NamedTuple):
    """How far back: `window_days` to learn from, `holdout_days` after them to judge on, in vehicle-days; `cap` is the
    most readings of a vehicle, as a multiple of the median."""

    window_days: float
    holdout_days: float
    cap: float = 2.0


class Windows(NamedTuple):
    """`training` is all that a fit may see; `newest` is the same past and what was held out, of which only that counts:
    before `since` no reading is healthy, and no fault is one to be found. `whole` is all of it."""

    training: History
    newest: History
    whole: History
    since: int


def windows(
    fleet: Fleet,
    readings: Batch,
    told: tuple[Sequence[VehicleEvent], Sequence[Label]],
    cutoff: int,
    spans: Spans,
) -> Windows:
    """The windows of a retraining at `cutoff`, from `readings` in order of time and what was `told` (events, labels).

    Nothing that came later, and no label that was reported later, changes them. Faults inside the window are known to
    the fit as faults, so that it learns no health from them.
    """
    events, labels = told
    ticks = fleet.ticks_per_day
    since = cutoff - int(spans.holdout_days * ticks)
    start = since - int(spans.window_days * ticks)
    first, last = np.searchsorted(readings.ts, [start, cutoff + 1])
    recent = readings.rows(int(first), int(last))
    whole = known_at(fleet, recent, events, labels, cutoff)
    return Windows(capped(_before(whole, since), spans.cap), only_from(whole, since), whole, since)


def _before(history: History, until: int) -> History:
    """What came before `until`, with all that is known of it by now."""
    rows = int(np.searchsorted(history.batch.ts, until))
    return history._replace(
        batch=history.batch.rows(0, rows),
        codes=history.codes[:rows],
        health=history.health[:rows],
        faults=[fault for fault in history.faults if fault.end < until],
    )


def only_from(history: History, since: int) -> History:
    """The same past, of which only what comes at or after `since` counts: the rest is there to warm up."""
    before = history.batch.ts < since
    health = np.where(before & (history.health == HEALTHY), UNKNOWN, history.health).astype(np.int8)
    return history._replace(health=health, faults=[fault for fault in history.faults if fault.start >= since])


def capped(history: History, cap: float) -> History:
    """The history with at most `cap` times the median number of readings a vehicle, its newest."""
    counts = np.bincount(history.codes, minlength=len(history.names))
    most = int(np.ceil(cap * float(np.median(counts[counts > 0])))) if counts.any() else 0
    if counts.max(initial=0) <= most:
        return history
    order = np.argsort(history.codes, kind="stable")
    place = np.arange(len(order)) - np.searchsorted(history.codes[order], history.codes[order], side="left")
    keep = np.zeros(len(order), np.bool_)
    keep[order] = counts[history.codes[order]] - place <= most
    rows = np.flatnonzero(keep)
    return history._replace(batch=history.batch.take(rows), codes=history.codes[rows], health=history.health[rows])
