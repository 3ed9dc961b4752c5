"""The engine: from a Batch to an Outcome over per-vehicle state. Pure: it knows no clock, file or socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import direct
from anomaly.engine import arrays, layout
from anomaly.engine.chain import Chain, KeptBaseline
from anomaly.engine.cohorts import Merged, Partial
from anomaly.engine.events import Event
from anomaly.engine.explain import evidence
from anomaly.engine.frame import Frame
from anomaly.engine.layout import Observed, Readings, Settled
from anomaly.engine.model import Arm, Floats
from anomaly.engine.observe import observe as first_pass
from anomaly.engine.outcome import Decisions, Outcome
from anomaly.engine.settle import settle as second_pass
from anomaly.engine.shadow import Shadowed, shadows
from anomaly.engine.silent import Unheard, Watch, silences
from anomaly.engine.state import VehicleState
from anomaly.engine.view import VehicleView, shares, view
from anomaly.errors import ConfigError
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.text import Text

observe, settle = direct(first_pass), direct(second_pass)
REASONS = ("missing", "range", "step", "stuck", "dropout", "unseen_regime")
SHORT = 256
"""Readings that are tried at once at least: the passes over fewer cost as much."""
Recall = Callable[[Sequence[str]], Sequence[Event]]
Revive = Callable[[Sequence[str]], Mapping[str, bytes]]
Stage = Callable[[str], None]


class _Made(NamedTuple):
    """What becomes of a batch on its way: what both passes say, and the scores between them."""

    observed: Observed
    scores: Floats
    abrupt: Floats
    settled: Settled

    @classmethod
    def of(cls, count: int, waiting: int, frame: Frame) -> _Made:
        scores, abrupt = np.zeros(count, np.float32), np.zeros(count, np.float32)
        return cls(arrays.observed(count, waiting, frame), scores, abrupt, arrays.settled(count))


class _Passed(NamedTuple):
    """Events that took effect, the row up to which it went, and the one from which on all has to be made again, as a
    decision changed its features (-1: none)."""

    applied: int
    row: int
    stale: int


class Engine:
    """State and decisions of the vehicles of one partition; decisions do not depend on how batches are cut.

    `recall` is asked for the events of vehicles at their first reading, those that `add_events` was not given;
    `revive` for the state of vehicles that come back after `evict` let them go; `kept` (vehicle, id of an event) for
    the baseline before a restart that is to be undone, as `Applied` gave it. `stage` is told the name of each stage of
    `decide` when it ends: slot, features, score, threshold, decisions.
    """

    def __init__(
        self,
        fleet: Fleet,
        frame: Frame,
        recall: Recall = lambda _vehicles: (),
        revive: Revive = lambda _vehicles: {},
        kept: KeptBaseline = lambda _vehicle, _event: None,
        stage: Stage = lambda _name: None,
    ) -> None:
        if tuple(fleet.signals) != frame.signals or fleet.context.regime != frame.regime:
            raise ConfigError(
                f"the fleet file's signals are not the model's: {', '.join(fleet.columns)} against "
                f"{', '.join([*frame.signals, *frame.regime])}; train a model for this fleet file"
            )
        self._fleet = fleet
        self._frame = frame
        self._recall, self._revive, self._stage = recall, revive, stage
        self._arrays = frame.arrays()
        self._limits = arrays.limits(fleet)
        self._lasting = 0 if frame.features == "conformal" else fleet.alerts.lasting_after
        self._state = VehicleState(frame, fleet.state.capacity, fleet.context.max_cohorts)
        self._apart = False
        self._merged: list[Merged] = []
        self._chain = Chain(len(frame.signals), kept)
        self._arms: Sequence[Arm] = ()
        self._assign: Callable[[str], int] = lambda _vehicle: 0

    def __len__(self) -> int:
        """How many vehicles are here."""
        return len(self._state)

    @property
    def vehicles(self) -> Text:
        """All vehicles that are here."""
        return self._state.index.names(self._state.index.used())

    def knows(self, vehicle: str) -> bool:
        """Whether a reading of the vehicle was seen, and it was not let go."""
        return self._state.slot(vehicle) is not None

    def evict(self, count: int | None = None) -> dict[str, bytes]:
        """Let the vehicles go that were heard of least recently: `count`, or None: where there are more than
        [state] capacity, a hundredth of it.

        Answers the state of each, for `revive` to give back.
        """
        if count is None:
            over = len(self._state) - self._state.capacity
            count = max(over, self._state.capacity // 100) if over > 0 else 0
        return self._state.evict(count) if count else {}

    def bring_back(self, vehicles: Sequence[str]) -> None:
        """Have vehicles here that were let go, without a reading."""
        _, new = self._state.slots(Text.of(vehicles))
        self._welcome(new)
        self._state.touch(new)

    def unknown(self, vehicles: Text) -> NDArray[np.int64]:
        """Positions of the vehicles that are not here, ascending: int64[m]."""
        return np.flatnonzero(self._state.find(vehicles) < 0)

    def use(self, arms: Sequence[Arm], assign: Callable[[str], int]) -> None:
        """From the next batch on, vehicle v scores with the model of `arms[assign(v)]`; nothing is warmed again."""
        rows = [self._state.model_row(arm.model.digest, arm.model.q_fleet) for arm in arms]
        self._arms, self._assign = list(arms), assign
        self._policies = arrays.policies([arm.model for arm in arms], rows)
        self._watch = Watch(self._state, self._chain, self._policies, self._limits.grace)
        self._shadowed = Shadowed.of(arms, self._state, self._fleet.alerts.gap)
        self._state.arm_of_new = -1 if len(arms) > 1 else 0
        self._state.arms[: self._state.index.high] = self._state.arm_of_new

    def add_events(self, events: Sequence[Event]) -> int:
        """Events to come; answers how many are late, their vehicle having sent a reading at or after their time.

        A late one takes effect at the vehicle's next reading; a restart not, if a later one has taken effect already.
        """
        late = 0
        for event in events:
            slot = self._state.slot(event.vehicle) if self._chain.add(event) else None
            late += slot is not None and bool(self._state.arrays.i8[slot, layout.LAST_TS] >= event.ts)
        return late

    def decide(self, batch: Batch) -> Outcome:
        """Every reading of `batch` in arrival order into its vehicle's state; what comes of it.

        Where a decision changes what a vehicle's features are, and the vehicle has later readings in the batch, all is
        taken back and made again in two parts, and the next is tried no farther than twice as far; cuts do not matter.
        The outcome is that of the first n readings where the next waits for `merge`: n is the length of `status`.
        """
        readings = self._readings(batch)
        self._stage("slot")
        made = _Made.of(len(batch), len(self._chain), self._frame)
        self._state.touch(readings.slots)
        told: list[Unheard] = []
        passed, end, stride = _Passed(0, 0, -1), len(batch), len(batch)
        while passed.row < len(batch):
            rows = passed.row, self._watch.until(readings.ts, passed.row, end)
            before = self._state.snapshot(readings.slots, rows, self._lasting)
            sums = [] if before is None else [made.observed.masked.copy(), made.settled.counts.copy()]
            attempt = self._pass(readings, rows, made, passed.applied)
            if attempt.stale < 0:
                passed = attempt
                if attempt.row >= end:
                    end, stride = min(attempt.row + stride, len(batch)), 2 * stride
                told += self._watch.look(passed.row - 1, self._assign_arms) if attempt.row > rows[0] else []
                if attempt.row < rows[1] and not self._merge_own(attempt.row):
                    break
                continue
            self._state.restore(before)
            made.observed.masked[:], made.settled.counts[:] = sums
            end, stride = attempt.stale, max(2 * (attempt.stale - rows[0]), SHORT)
        observed = arrays.first(made.observed, passed.row)
        return self._outcome(readings, made._replace(observed=observed), passed.applied, told)

    def _merge_own(self, row: int) -> bool:
        """What this engine counted in the next period is all there is; False where others count too."""
        if not self._apart:
            self._merged.append(self._state.cohorts.merge()._replace(row=row, ticks=self._frame.period))
        return not self._apart

    def features(self, batch: Batch) -> Observed:
        """The first pass alone, as training needs it: features, status and masks of every reading, no decision."""
        readings = self._readings(batch)
        observed = arrays.observed(len(batch), len(self._chain), self._frame)
        self._state.touch(readings.slots)
        applied = row = 0
        while row < len(batch):
            applied, row = self._observe(readings, (row, len(batch)), applied, observed)
            if row < len(batch) and not self._merge_own(row):
                break
        self._chain.applied(observed, applied)
        self._merged = []
        return arrays.first(observed, row)

    def _observe(self, readings: Readings, rows: tuple[int, int], applied: int, observed: Observed) -> tuple[int, int]:
        """The first pass; how many events took effect, and the row that it came to."""
        state, cohorts = self._state.arrays, self._state.cohorts
        applied = observe(
            readings, rows, applied, self._arrays, self._limits, state, cohorts.arrays, self._chain.arrays, observed
        )
        stopped = cohorts.stopped()
        return applied, rows[1] if stopped is None else stopped

    def _pass(self, readings: Readings, rows: tuple[int, int], made: _Made, applied: int) -> _Passed:
        """Both passes over some rows of a batch, and the model between them."""
        observed, state = made.observed, self._state
        applied, end = self._observe(readings, rows, applied, observed)
        rows = rows[0], end
        self._stage("features")
        self._score(readings.slots, rows, made)
        self._stage("score")
        stale = settle(
            readings,
            rows,
            made.scores,
            made.abrupt,
            state.arms,
            (self._fleet.alerts.gap, self._lasting),
            self._arrays,
            observed,
            state.arrays,
            state.quantiles,
            self._policies,
            made.settled,
        )
        self._stage("threshold")
        return _Passed(applied, rows[1], stale)

    def _outcome(self, readings: Readings, made: _Made, applied: int, told: Sequence[Unheard]) -> Outcome:
        decisions = self._decisions(made)
        observed, settled = made.observed, made.settled
        outcome = Outcome(
            decisions=decisions,
            episodes=arrays.episodes(settled),
            evidence=evidence(decisions, observed, self._arms, self._arrays),
            applied=self._chain.applied(observed, applied),
            status=observed.status,
            masked=dict(zip(REASONS, observed.masked[1:].tolist(), strict=True)),
            silences=silences(readings, settled, told, self._state, self._policies),
            shadows=shadows(readings.slots, decisions, observed, settled.unconfirmed, self._state, self._shadowed),
            features=observed.features,
            merged=self._merged,
        )
        self._merged = []
        self._stage("decisions")
        return outcome

    def set_apart(self) -> None:
        """Other engines have vehicles of the same cohorts: `closed` gives what this one counted, `merge` takes what all
        did, and `decide` takes readings only up to one that needs a period that is not merged yet."""
        self._apart = True

    @property
    def awaited(self) -> int:
        """The period of the cohorts that is to be merged next."""
        return self._state.cohorts.awaited

    @property
    def late(self) -> int:
        """Readings that came too late to count for their cohort."""
        return self._state.cohorts.late

    @property
    def left_out(self) -> frozenset[str]:
        """Cohorts beyond [context] max_cohorts; their vehicles go without. At most 100 of them are known."""
        return frozenset(self._state.cohorts.left_out)

    def skip_to(self, period: int) -> bool:
        """Of an engine without any reading: its first period is later than `period`; False if that is no news."""
        return self._state.cohorts.skip_to(period)

    def closed(self) -> list[Partial]:
        """Of an engine that is apart: what it counted in each period that closed since the last call."""
        return self._state.cohorts.closed()

    def merge(self, merged: Partial) -> None:
        """Of an engine that is apart: what all of them counted in the awaited period. StateError for another one."""
        self._merged.append(self._state.cohorts.merge(merged)._replace(ticks=self._frame.period))

    def _readings(self, batch: Batch) -> Readings:
        slots, new = self._state.slots(batch.vehicles)
        if len(new):
            self._welcome(new)
        self._assign_arms(slots)
        if self._chain.stale:
            self._chain.link(self._state.slot, self._state.arrays.i4[:, layout.HEAD])
        if self._frame.cohort is None:
            cohort = np.full(len(batch), -1, np.int64)
        else:
            cohort = self._state.cohorts.numbers([batch.context[field] for field in self._frame.cohort], len(batch))
        ts, values = np.ascontiguousarray(batch.ts, np.int64), np.ascontiguousarray(batch.values, np.float32)
        return Readings(slots, ts, values, cohort)

    def _welcome(self, new: NDArray[np.int64]) -> None:
        """Vehicles that were not here: their state if they were let go, and the restarts that wait for them."""
        vehicles = self._state.index.names(new).tolist()
        revived = self._revive(vehicles)
        for slot, vehicle in zip(new.tolist(), vehicles, strict=True) if revived else ():
            if vehicle in revived:
                self._state.revive(slot, revived[vehicle])
        self.add_events(self._recall(vehicles))
        self._chain.stale = self._chain.stale or any(vehicle in self._chain for vehicle in vehicles)

    def _assign_arms(self, slots: NDArray[np.int64]) -> None:
        arms = self._state.arms
        if len(self._arms) != 1 and (arms[slots] < 0).any():
            unassigned = np.unique(slots[arms[slots] < 0])
            vehicles = self._state.index.names(unassigned).tolist()
            arms[unassigned] = [self._assign(vehicle) for vehicle in vehicles]

    def _score(self, slots: NDArray[np.int64], rows: tuple[int, int], made: _Made) -> None:
        """The scores of the rows [first, end) that are decided."""
        first, end = rows
        features, decided = made.observed.features[first:end], made.observed.status[first:end] <= 1
        whole = len(self._arms) == 1 and bool(decided.all())
        arms = slots[:0] if whole else self._state.arms[slots[first:end]]
        for position, arm in enumerate(self._arms):
            own = slice(None) if whole else np.flatnonzero(decided & (arms == position))
            if isinstance(own, slice) or len(own):
                made.scores[first:end][own] = arm.model.scorer.score(features[own])
                if arm.model.abrupt is not None:
                    made.abrupt[first:end][own] = arm.model.abrupt.score(features[own])

    def _decisions(self, made: _Made) -> Decisions:
        settled, rows = made.settled, np.flatnonzero(made.observed.status <= 1)
        own = slice(None) if len(rows) == len(settled.score) else rows
        return Decisions(
            row=rows,
            score=settled.score[own],
            threshold=settled.threshold[own],
            level=settled.level[own],
            warm=made.observed.warm[own],
            alarm=settled.alarm[own],
            kind=settled.kind[own],
            kinds=settled.kinds[own],
            arm=settled.arm[own],
            episode_start=settled.start[own],
            episode_count=settled.nth[own],
        )

    def delta(self) -> Iterator[bytes]:
        """All that changed since the last `delta`, in pieces, each made when it is asked for; all have to be taken."""
        waiting = self._chain.saved() if self._chain.changed else None
        self._chain.changed = False
        return self._state.delta(waiting)

    @property
    def pages(self) -> int:
        """How many pages the state of all vehicles has."""
        return self._state.pages

    def page(self, number: int) -> bytes:
        """One page of the state as it is now; -1: what belongs to no vehicle."""
        return self._state.whole(self._chain.saved()) if number < 0 else self._state.page(number)

    def apply(self, blobs: Iterable[bytes]) -> None:
        """Take over pages, whenever each was made, then all deltas since the first of them, in order.

        Raises StateError if the bytes do not fit.
        """
        for blob in blobs:
            waiting = self._state.load(blob)
            if waiting is not None:
                self._chain.restore(waiting)
        heads = self._state.arrays.i4[: self._state.index.high, layout.HEAD]
        heads[:] = -1
        self._chain.moved()

    def digest(self) -> str:
        """Hex digest of all state, whatever the order in which vehicles came."""
        return self._state.digest(self._chain.saved())

    def shares(self, vehicle: str) -> list[float]:
        """The share of each signal in the score of a vehicle that is here, by its model; they sum to 1."""
        slot = self._state.slot(vehicle)
        if slot is None:
            raise KeyError(vehicle)
        scorer = self._arms[max(int(self._state.arms[slot]), 0)].model.scorer
        return shares(slot, self._state, self._frame, self._limits.silent_after, scorer)

    def vehicle(self, vehicle: str, away: bytes | None = None) -> VehicleView | None:
        """What is known of a vehicle, None if it was never seen; `away`: its state if it was let go."""
        if away is not None:
            slots, _ = self._state.slots(Text.of([vehicle]))
            self._state.revive(int(slots[0]), away)
        slot = self._state.slot(vehicle)
        return None if slot is None else view(vehicle, slot, self._state, self._frame)
