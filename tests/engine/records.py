"""What the second writing of the engine's rules remembers: of signals, episodes, cohorts and vehicles."""

from __future__ import annotations

import math
from dataclasses import dataclass

from anomaly.engine.events import Action, Event
from anomaly.engine.layout import BINS, CLOSED, MIN_READINGS, MIN_VEHICLES, RECENT, SIZES


@dataclass
class Gathered:
    """What is gathered of one signal over time; `before` is the deviation before, None at first;
    `tracked` says that the last value was near the evidence, `suspect` that the signal jumped and is not back."""

    evidence: float = 0.0
    fast: float = 0.0
    slow: float = 0.0
    variance: float = 0.0
    quick: float = 0.0
    before: float | None = None
    tracked: bool = False
    suspect: bool = False

    def take(self, deviation: float, weight: float, quick_weight: float) -> tuple[float, float]:
        """One more deviation; answers it and its change."""
        change = 0.0 if self.before is None else deviation - self.before
        self.before = deviation
        self.variance = (1 - weight) * (self.variance + weight * (deviation - self.evidence) ** 2)
        self.evidence += weight * (deviation - self.evidence)
        self.fast += 0.3 * (deviation - self.fast)
        self.slow += 0.01 * (deviation - self.slow)
        self.quick += quick_weight * (deviation - self.quick)
        return deviation, change


@dataclass
class Run:
    """An episode of one kind: `alarms` 0 where none is open."""

    alarms: int = 0
    start: int = 0
    last: int = 0
    peak: int = 0
    top: float = 0.0
    gap: int = 0

    def follow(self, hit: bool, ts: int, level: float, most: int) -> int:
        """One reading more; answers the change, 0 for none: opened, higher, closed."""
        if not hit:
            self.gap += self.alarms > 0
            return 3 if self.alarms and self.gap >= most else 0
        opened = self.alarms == 0
        if opened:
            self.start, self.top = ts, -1.0
        self.last, self.alarms, self.gap = ts, self.alarms + 1, 0
        if level > self.top:
            self.top, self.peak = level, ts
            return 1 if opened else 2
        return int(opened)


def _quantile(counts: dict[int, int], share: float) -> float:
    """What a share of the counted places is below, those of a bin lying evenly in it."""
    rest = share * sum(counts.values())
    for place in sorted(counts):
        if rest <= counts[place]:
            return (place - 120.5 + rest / counts[place]) * 0.1
        rest -= counts[place]
    raise AssertionError("a share is at most 1")


def _summed(parts: list[dict[int, int]]) -> dict[int, int]:
    return {key: sum(part.get(key, 0) for part in parts) for key in set().union(*parts)}


class Cohort:
    """What the vehicles of a cohort did by period, signal and place, how large their evidence was, and who it was."""

    def __init__(self) -> None:
        self.vehicles: dict[int, set[str]] = {}
        self.counts: dict[tuple[int, int], dict[int, int]] = {}
        self.sizes: dict[tuple[int, int], dict[int, int]] = {}

    def begin(self) -> None:
        """Forget all."""
        self.vehicles, self.counts, self.sizes = {}, {}, {}

    def _few(self, period: int) -> bool:
        return max(len(self.vehicles.get(p, ())) for p in range(period - 1 - CLOSED, period - 1)) < MIN_VEHICLES

    def _merged(self, j: int, period: int) -> dict[int, int]:
        """The places of signal j that `period` is told of, empty where they are too few."""
        merged = _summed([self.counts.get((p, j), {}) for p in range(period - 1 - CLOSED, period - 1)])
        return {} if self._few(period) or sum(merged.values()) < MIN_READINGS else merged

    def known(self, signals: int, period: int) -> bool:
        """Whether anything is known of what the cohort did before `period`."""
        return any(self._merged(j, period) for j in range(signals))

    def shift(self, j: int, period: int) -> float:
        """What is taken off signal j in `period`."""
        merged = self._merged(j, period)
        if not merged:
            return 0.0
        low, median, high = (_quantile(merged, share) for share in (0.25, 0.5, 0.75))
        error = 2.5 * (high - low) / 1.349 / math.sqrt(sum(merged.values()))
        return median * max(0.0, 1 - error**2 / max(median**2, 1e-9))

    def scale(self, j: int, period: int) -> float:
        """What evidence of signal j is divided by in `period`."""
        sizes = _summed([self.sizes.get((p, j), {}) for p in range(period - 1 - RECENT, period - 1)])
        total = sum(sizes.values())
        if self._few(period):
            return 1.0
        above = 0.1 * total + 2 * RECENT
        for eighth in sorted(sizes, reverse=True):
            if above < sizes[eighth]:
                return max((eighth + 1 - above / sizes[eighth]) / 8, 1.0)
            above -= sizes[eighth]
        return 1.0

    def count(self, j: int, period: int, place: float) -> None:
        """One more reading of signal j at `place`, in spreads."""
        bins = self.counts.setdefault((period, j), {})
        number = int(min(max(place * 10 + 120.5, 0), BINS - 1))
        bins[number] = bins.get(number, 0) + 1

    def count_size(self, j: int, period: int, size: float) -> None:
        """One more vehicle whose evidence of signal j is `size` times what is usual."""
        bins = self.sizes.setdefault((period, j), {})
        number = min(int(8 * size), SIZES - 1)
        bins[number] = bins.get(number, 0) + 1


@dataclass
class Seen:
    """What one reading says of each signal: how far it is, from what is usual, and whether that may be used."""

    reasons: list[str]
    place: list[float]
    deviation: list[float]
    used: list[bool]
    told: list[tuple[float, float]]

    @property
    def refused(self) -> bool:
        """Whether a sensor is at fault."""
        return any(reason not in ("", "missing") for reason in self.reasons)


@dataclass
class Said:
    """One decision; `start` and `nth` are of the running episode of `kind`."""

    score: float
    threshold: float
    kind: int
    kinds: set[int]
    start: int = 0
    nth: int = 0


class Vehicle:
    """All that is known of one vehicle. `settled` are the signals whose baseline is its own."""

    def __init__(self, name: str, signals: int, q: float) -> None:
        self.name, self.q, self.last_ts = name, q, -math.inf
        self.regime, self.restarted, self.seen = 0, -math.inf, 0
        self.cohort: Cohort | None = None
        self.waiting: list[Event] = []
        self.kept: dict[str, tuple[int, dict[int, float]]] = {}
        self.fault, self.abrupt, self.sensor = Run(), Run(), Run()
        self.risen: int | None = None
        self.born = self.confirmed = self.grown = False
        self.maintenance = self.in_a_row = self.unconfirmed = 0
        self.shifted: int | None = None
        self.baseline, self.silent, self.equal = [0.0] * signals, [0] * signals, [0] * signals
        self.sums: list[list[float]] = [[] for _ in range(signals)]
        self.last: list[float] = [math.nan] * signals
        self.gathered = [Gathered() for _ in range(signals)]
        self.settled: set[int] = set()
        self.learning_again: set[int] = set()

    @property
    def in_episode(self) -> bool:
        """Whether nothing is to be learned because of what is going on."""
        return self.fault.alarms > 0 or self.abrupt.alarms > 0

    def happen(self, event: Event, burn_in: int) -> tuple[bool, bool]:
        """An event takes effect; answers whether the baseline is another one, and whether a shift is answered."""
        superseded = event.ts <= self.restarted
        if event.action in (Action.RESTART, Action.ACCEPT) and not superseded:
            self._restart(event, burn_in)
            self.restarted, self.maintenance, self.confirmed = event.ts, 0, False
        elif event.action == Action.UNDO:
            self._undo(event, burn_in)
        elif event.action == Action.BEGIN:
            self.maintenance += 1
        elif event.action == Action.END:
            self.maintenance = max(self.maintenance - 1, 0)
        elif event.action in (Action.CONFIRM, Action.ANSWER, Action.ACCEPT):
            over = event.until <= self.restarted
            self.unconfirmed *= event.action != Action.CONFIRM
            self.confirmed = event.action == Action.CONFIRM and (self.confirmed or not over)
        again = event.action == Action.UNDO or (event.action in (Action.RESTART, Action.ACCEPT) and not superseded)
        if event.action == Action.DISMISS:
            self.confirmed = False
            alarms = self.fault.alarms > 0 and not self.born and self.fault.start <= event.until
            again = alarms and self.seen >= burn_in and not superseded
            if again:
                self._move(event)
        return again, event.action in (Action.CONFIRM, Action.ANSWER, Action.ACCEPT, Action.DISMISS)

    def _move(self, event: Event) -> None:
        self.kept[event.id] = event.ts, {j: self.baseline[j] for j in self.settled}
        self.restarted = event.ts
        for j, gathered in enumerate(self.gathered):
            self.baseline[j] += gathered.evidence
        self.gathered = [Gathered() for _ in self.gathered]

    def _restart(self, event: Event, burn_in: int) -> None:
        every, warm = set(range(len(self.baseline))), self.seen >= burn_in
        about = set(event.signals) or every
        if warm:
            self.kept[event.id] = event.ts, {j: self.baseline[j] for j in about & self.settled}
        for j in about:
            self.sums[j], self.last[j], self.equal[j], self.gathered[j] = [], math.nan, 0, Gathered()
        self.settled -= about
        if about == every:
            self._settle_down(every)
            self.seen = 0
        elif warm:
            self.learning_again |= about

    def _undo(self, event: Event, burn_in: int) -> None:
        ts, kept = self.kept.get(event.undoes, (math.nan, {}))
        if ts != self.restarted:
            return
        for j in range(len(self.baseline)):
            if j in kept:
                if j not in self.settled or kept[j] != self.baseline[j]:
                    self.gathered[j] = Gathered()
                self.baseline[j] = kept[j]
                self._settle_down({j})
                self.settled.add(j)
            elif self.seen < burn_in:
                self.gathered[j] = Gathered()
                self.learning_again.add(j)
        self.seen = max(self.seen, burn_in)

    def _settle_down(self, signals: set[int]) -> None:
        """Signals that do not learn their baseline by themselves any more."""
        for j in signals & self.learning_again:
            self.silent[j] = 0
        self.learning_again -= signals
