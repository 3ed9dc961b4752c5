"""The engine: from a Batch to an Outcome over per-vehicle state. Pure: it knows no clock, file or socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.engine import arrays, layout
from anomaly.engine.frame import Frame
from anomaly.engine.layout import Observed, Readings, Restarts, Settled
from anomaly.engine.model import Arm, Floats
from anomaly.engine.observe import observe
from anomaly.engine.outcome import Applied, Decisions, Evidence, Kind, Outcome
from anomaly.engine.settle import settle
from anomaly.engine.state import VehicleState
from anomaly.errors import ConfigError
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.text import Text

REASONS = ("", "missing", "range", "step", "stuck")


class Restart(NamedTuple):
    """An event that starts a vehicle's baseline again, before its first reading with `ts` at or after the event's."""

    id: str
    vehicle: str
    ts: int


Recall = Callable[[Sequence[str]], Sequence[Restart]]
Revive = Callable[[Sequence[str]], Mapping[str, bytes]]
Stage = Callable[[str], None]


class VehicleView(NamedTuple):
    """One vehicle's state for people: means and evidence in its signals' own order, evidence in healthy spreads."""

    vehicle: str
    last_ts: int
    readings: int
    warm: float
    regime: int
    expected: list[float]
    evidence: list[float]
    quantiles: dict[str, float]
    episode_start: int | None


class Engine:
    """State and decisions of the vehicles of one partition; decisions do not depend on how batches are cut.

    `recall` is asked for the restarts of vehicles at their first reading, those that `add_restarts` was not given;
    `revive` for the state of vehicles that come back after `evict` let them go. `stage` is told the name of each stage
    of `decide` when it ends: slot, features, score, threshold, decisions.
    """

    def __init__(
        self,
        fleet: Fleet,
        frame: Frame,
        recall: Recall = lambda _vehicles: (),
        revive: Revive = lambda _vehicles: {},
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
        self._state = VehicleState(frame, fleet.state.capacity)
        self._waiting: dict[str, list[Restart]] = {}
        self._restarts = Restarts(np.zeros(0, np.int64), np.zeros(0, np.int64))
        self._linked: list[Restart] = []
        self._headed: list[int] = []
        self._relink = False
        self._waiting_changed = False
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
        self._policies = arrays.policies(arms, rows)
        self._state.arms[: self._state.index.high] = -1

    def add_restarts(self, events: Sequence[Restart]) -> int:
        """Events to come; answers how many are late, their vehicle having sent a reading at or after their time.

        A late one takes effect at the vehicle's next reading, unless a later restart has taken effect already.
        """
        late = 0
        for event in events:
            waiting = self._waiting.setdefault(event.vehicle, [])
            if event not in waiting:
                waiting.append(event)
                waiting.sort(key=lambda known: (known.ts, known.id))
                slot = self._state.slot(event.vehicle)
                late += slot is not None and bool(self._state.arrays.i8[slot, layout.LAST_TS] >= event.ts)
                self._relink = self._waiting_changed = True
        return late

    def decide(self, batch: Batch) -> Outcome:
        """Every reading of `batch` in arrival order into its vehicle's state; what comes of it."""
        readings = self._readings(batch)
        self._stage("slot")
        observed, applied = self._observe(readings)
        self._stage("features")
        state = self._state
        decided = np.flatnonzero(observed.status <= 1)
        scores = self._score(readings.slots, observed.features, decided)
        self._stage("score")
        settled = arrays.settled(len(batch))
        changes = settle(
            readings,
            scores,
            state.arms,
            self._fleet.alerts.gap,
            observed,
            state.arrays,
            state.quantiles,
            self._policies,
            settled,
        )
        self._stage("threshold")
        decisions = self._decisions(readings.slots, decided, scores, observed, settled)
        outcome = Outcome(
            decisions=decisions,
            episodes=arrays.episodes(settled, changes, state.arms[readings.slots]),
            evidence=self._evidence(decisions, observed),
            applied=applied,
            status=observed.status,
            masked={name: int(observed.masked[code]) for code, name in enumerate(REASONS) if name},
        )
        self._stage("decisions")
        return outcome

    def features(self, batch: Batch) -> Observed:
        """The first pass alone, as training needs it: features, status and masks of every reading, no decision."""
        return self._observe(self._readings(batch))[0]

    def _observe(self, readings: Readings) -> tuple[Observed, Applied]:
        observed = arrays.observed(len(readings.ts), len(self._linked), self._frame)
        state = self._state
        state.touch(readings.slots)
        count = observe(
            readings, self._arrays, self._limits, state.arrays, state.cohorts.arrays, self._restarts, observed
        )
        return observed, self._applied(observed, count)

    def _readings(self, batch: Batch) -> Readings:
        slots, new = self._state.slots(batch.vehicles)
        if len(new):
            self._welcome(new)
        self._assign_arms(slots)
        if self._relink:
            self._link()
        cohort = np.full(len(batch), -1, np.int64)
        if self._frame.cohort is not None:
            cohort = self._state.cohorts.numbers([batch.context[field] for field in self._frame.cohort], len(batch))
            self._state.cohorts.touch(cohort)
        return Readings(slots, batch.ts, np.ascontiguousarray(batch.values), cohort)

    def _welcome(self, new: NDArray[np.int64]) -> None:
        """Vehicles that were not here: their state if they were let go, and the restarts that wait for them."""
        vehicles = self._state.index.names(new).tolist()
        revived = self._revive(vehicles)
        for slot, vehicle in zip(new.tolist(), vehicles, strict=True) if revived else ():
            if vehicle in revived:
                self._state.revive(slot, revived[vehicle])
        self.add_restarts(self._recall(vehicles))
        self._relink = self._relink or any(vehicle in self._waiting for vehicle in vehicles)

    def _assign_arms(self, slots: NDArray[np.int64]) -> None:
        arms = self._state.arms
        unassigned = np.unique(slots[arms[slots] < 0])
        if len(unassigned):
            vehicles = self._state.index.names(unassigned).tolist()
            arms[unassigned] = [self._assign(vehicle) for vehicle in vehicles]

    def _link(self) -> None:
        """Chain each known vehicle's waiting restarts for the kernel."""
        heads = self._state.arrays.i4[:, layout.HEAD]
        heads[self._headed] = -1
        self._linked, self._headed = [], []
        after: list[int] = []
        for vehicle, events in self._waiting.items():
            slot = self._state.slot(vehicle)
            if slot is not None:
                first = len(self._linked)
                heads[slot] = first
                self._headed.append(slot)
                self._linked += events
                after += [*range(first + 1, first + len(events)), -1]
        times = np.array([event.ts for event in self._linked], np.int64)
        self._restarts = Restarts(times, np.array(after, np.int64))
        self._relink = False

    def _score(self, slots: NDArray[np.int64], features: Floats, decided: NDArray[np.int64]) -> Floats:
        if len(self._arms) == 1 and len(decided) == len(slots):
            return self._arms[0].model.scorer.score(features)
        scores = np.zeros(len(slots), np.float32)
        arms = self._state.arms[slots[decided]]
        for position, arm in enumerate(self._arms):
            rows = decided if len(self._arms) == 1 else decided[arms == position]
            if len(rows):
                scores[rows] = arm.model.scorer.score(features[rows])
        return scores

    def _decisions(
        self,
        slots: NDArray[np.int64],
        rows: NDArray[np.int64],
        scores: Floats,
        observed: Observed,
        settled: Settled,
    ) -> Decisions:
        kinds = settled.kinds[rows]
        fault = (kinds & (1 << Kind.FAULT)) > 0
        sensor = (kinds & (1 << Kind.SENSOR)) > 0
        return Decisions(
            row=rows,
            score=scores[rows],
            threshold=settled.threshold[rows],
            level=settled.level[rows],
            warm=observed.warm[rows],
            alarm=fault,
            kind=np.where(fault, Kind.FAULT, np.where(sensor, Kind.SENSOR, Kind.NONE)).astype(np.uint8),
            kinds=kinds,
            arm=self._state.arms[slots[rows]],
            episode_start=settled.start[rows],
            episode_count=settled.nth[rows],
        )

    def _evidence(self, decisions: Decisions, observed: Observed) -> Evidence:
        """Shares of the signals where something is wrong: the model's for a fault, the masked ones for a sensor."""
        wrong = np.flatnonzero(decisions.kind)
        rows = decisions.row[wrong]
        if not len(wrong):
            return arrays.no_evidence(len(self._frame.signals))
        share = np.zeros((len(rows), len(self._frame.signals)), np.float32)
        fault = decisions.kind[wrong] == Kind.FAULT
        for position, arm in enumerate(self._arms):
            own = np.flatnonzero(fault & (decisions.arm[wrong] == position))
            if len(own):
                share[own] = arm.model.scorer.contributions(observed.features[rows[own]])
        masked = observed.reason[rows] > layout.MISSING
        refused = masked[~fault].astype(np.float32)
        share[~fault] = refused / np.maximum(refused.sum(axis=1, keepdims=True), np.float32(1))
        regime = observed.regime[rows]
        expected = self._arrays.mean[regime] + observed.center[rows] / self._arrays.inv_sd[regime]
        return Evidence(rows, share, expected.astype(np.float32), regime, masked)

    def _applied(self, observed: Observed, count: int) -> Applied:
        events = [self._linked[position] for position in observed.restart[:count]]
        for event in events:
            waiting = self._waiting[event.vehicle]
            waiting.remove(event)
            if not waiting:
                del self._waiting[event.vehicle]
            self._relink = self._waiting_changed = True
        rows = observed.restart_row[:count].copy()
        return Applied(rows, [event.id for event in events], [event.ts for event in events])

    def delta(self) -> Iterator[bytes]:
        """All that changed since the last `delta`, in pieces, each made when it is asked for; all have to be taken."""
        waiting = self._waiting_list() if self._waiting_changed else None
        self._waiting_changed = False
        return self._state.delta(waiting)

    @property
    def pages(self) -> int:
        """How many pages the state of all vehicles has."""
        return self._state.pages

    def page(self, number: int) -> bytes:
        """One page of the state as it is now; -1: what belongs to no vehicle."""
        return self._state.whole(self._waiting_list()) if number < 0 else self._state.page(number)

    def apply(self, blobs: Iterable[bytes]) -> None:
        """Take over pages, whenever each was made, then all deltas since the first of them, in order.

        Raises StateError if the bytes do not fit.
        """
        for blob in blobs:
            waiting = self._state.load(blob)
            if waiting is not None:
                self._waiting = {}
                for event, vehicle, ts in waiting:
                    self._waiting.setdefault(vehicle, []).append(Restart(event, vehicle, ts))
        heads = self._state.arrays.i4[: self._state.index.high, layout.HEAD]
        heads[:] = -1
        self._relink, self._headed = True, []

    def digest(self) -> str:
        """Hex digest of all state, whatever the order in which vehicles came."""
        return self._state.digest(self._waiting_list())

    def _waiting_list(self) -> list[tuple[str, str, int]]:
        return [(event.id, event.vehicle, event.ts) for events in self._waiting.values() for event in events]

    def vehicle(self, vehicle: str, away: bytes | None = None) -> VehicleView | None:
        """What is known of a vehicle, None if it was never seen; `away`: its state if it was let go."""
        if away is not None:
            slots, _ = self._state.slots(Text.of([vehicle]))
            self._state.revive(int(slots[0]), away)
        slot = self._state.slot(vehicle)
        if slot is None:
            return None
        state, at, signals = self._state.arrays, self._state.arrays.at, len(self._frame.signals)
        count = int(state.i4[slot, layout.COUNT])
        warm = min(1.0, count / self._frame.burn_in)
        regime = int(state.u2[slot, layout.REGIME])
        usual = state.f4[slot, at.baseline : at.baseline + signals] if warm == 1.0 else self._arrays.prior
        expected = self._arrays.mean[regime] + usual / self._arrays.inv_sd[regime]
        is_open = state.i4[slot, layout.ALARMS] > 0
        return VehicleView(
            vehicle=vehicle,
            last_ts=int(state.i8[slot, layout.LAST_TS]),
            readings=count,
            warm=warm,
            regime=regime,
            expected=expected.tolist(),
            evidence=state.f4[slot, at.evidence : at.evidence + signals].tolist(),
            quantiles={key: float(self._state.quantiles[row, slot]) for row, key in enumerate(self._state.q_fleet)},
            episode_start=int(state.i8[slot, layout.START]) if is_open else None,
        )
