"""Everything that a candidate has to pass before it may be a challenger; the report goes onto its card."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.frame import Frame
from anomaly.engine.model import Model
from anomaly.errors import ModelError
from anomaly.feedback.history import HEALTHY, UNKNOWN
from anomaly.fleet import Fleet
from anomaly.registry import safety
from anomaly.registry.probe import probe
from training.backtest import Before, backtest
from training.figures import Decided, Figures, found_faults, headline
from training.fit import PARITY, Trained
from training.gate import MOST_FALSE_ALARMS, Report, judge
from training.history import History

SLOWEST_US, SLOWER = 100.0, 5.0
"""Microseconds a reading, and times the champion's: slower than both is too slow."""
MOST_BYTES = 20_000_000
CANARIES_LOST = 0.05
SMALLEST_COHORT = 5
FEWEST_FAULTS = 4


class Cohort(msgspec.Struct, frozen=True, kw_only=True):
    """Both models on the vehicles of one cohort in the newest period."""

    name: str
    champion: Figures
    challenger: Figures


class Canaries(msgspec.Struct, frozen=True, kw_only=True):
    """Past confirmed faults that the champion finds: how many, and which of them ("vehicle at ts") are lost."""

    count: int
    lost: list[str]


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen, and `reasons` against the candidate; none: it passes. `latency_us` are champion and candidate."""

    reasons: list[str]
    replay: Report
    cohorts: list[Cohort]
    canaries: Canaries
    parity: float
    latency_us: tuple[float, float]
    size_bytes: int
    harmless: str

    @property
    def passed(self) -> bool:
        """Whether it may be a challenger."""
        return not self.reasons


def model_of(trained: Trained, name: str) -> Model:
    """A trained model as the engine takes it, published or not; its name stands for its digest."""
    detector = OnnxDetector(trained.onnx, trained.frame.signals)
    checks = trained.checks
    return Model(name, name, detector, trained.k, trained.q_fleet, trained.policy, checks, detector.abrupt)


class Candidate(NamedTuple):
    """A model that asks to be let through: what the engine needs, the file itself, and how far it is from its fit."""

    model: Model
    onnx: bytes
    parity: float


def gates(fleet: Fleet, frame: Frame, champion: Model, candidate: Candidate, past: tuple[History, int]) -> Gates:
    """Replay `past` = (history, since) with both models; the figures are of what came at or after `since`, before which
    the champion was in charge; the canaries of all of it."""
    history, since = past
    old, new = (backtest(fleet, frame, model, history).decided for model in (champion, candidate.model))
    taken_over = backtest(fleet, frame, candidate.model, history, Before(champion, since)).decided
    recent = newest(old, since), newest(taken_over, since)
    replay = judge(fleet, *recent)
    report = Gates(
        reasons=[],
        replay=replay,
        cohorts=list(_cohorts(fleet, history, *recent)),
        canaries=_canaries(fleet, history, old, new),
        parity=candidate.parity,
        latency_us=(latency_us(champion, frame), latency_us(candidate.model, frame)),
        size_bytes=len(candidate.onnx),
        harmless=harmless(candidate.onnx, len(frame.signals)),
    )
    return msgspec.structs.replace(report, reasons=list(_reasons(fleet, report)))


def newest(past: Decided, since: int) -> Decided:
    """The same of which only what comes at or after `since` counts."""
    health = np.where((past.ts < since) & (past.health == HEALTHY), UNKNOWN, past.health).astype(np.int8)
    return past._replace(health=health, faults=[fault for fault in past.faults if fault.start >= since])


def latency_us(model: Model, frame: Frame) -> float:
    """Microseconds a reading in batches of 1,024, the fastest of five."""
    features = np.zeros((1_024, frame.width), np.float32)
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        model.scorer.score(features)
        took.append(time.perf_counter() - begin)
    return round(1e6 * min(took) / len(features), 3)


def harmless(onnx: bytes, signals: int) -> str:
    """Empty if the file passes the registry's checks and a run in a limited process, else what is wrong."""
    try:
        safety.check(onnx, signals)
        probe(onnx, signals)
    except ModelError as error:
        return str(error)
    return ""


def _cohorts(fleet: Fleet, history: History, old: Decided, new: Decided) -> Iterator[Cohort]:
    fields = fleet.context.cohort or ()
    if not fields:
        return
    last = np.zeros(len(history.names), np.int64)
    last[history.codes] = np.arange(len(history.codes))
    columns = [history.batch.context[field].take(last) for field in fields]
    names = ["/".join(str(column[place]) for column in columns) for place in range(len(last))]
    for name in sorted(set(names)):
        own = np.array([code for code, one in enumerate(names) if one == name])
        if len(own) >= SMALLEST_COHORT:
            yield Cohort(name=name, champion=headline(_of(old, own), fleet), challenger=headline(_of(new, own), fleet))


def _of(past: Decided, own: NDArray[np.int64]) -> Decided:
    return past.of(own)._replace(cohorts=[alarm for alarm in past.cohorts if np.isin(alarm.codes, own).any()])


def _canaries(fleet: Fleet, history: History, old: Decided, new: Decided) -> Canaries:
    before, after = found_faults(old, fleet), found_faults(new, fleet)
    kept = [(fault, also) for fault, found, also in zip(old.faults, before, after, strict=True) if found]
    lost = [f"{history.names[fault.code]} at {fault.end}" for fault, also in kept if not also]
    return Canaries(count=len(kept), lost=lost)


def _reasons(fleet: Fleet, report: Gates) -> Iterator[str]:
    yield from report.replay.reasons
    for cohort in report.cohorts:
        yield from _of_cohort(fleet, cohort)
    lost = report.canaries.lost
    if len(lost) > CANARIES_LOST * report.canaries.count:
        named = ", ".join(lost[:3])
        yield f"canaries: {len(lost)} of {report.canaries.count} faults that the champion finds are lost: {named}"
    if not report.parity <= PARITY:
        yield f"parity: the ONNX model differs from what was fitted by {report.parity:.1e}, {PARITY:.0e} is allowed"
    slow = max(SLOWEST_US, SLOWER * report.latency_us[0])
    if report.latency_us[1] > slow:
        yield f"latency: {report.latency_us[1]:.1f} us a reading, at most {slow:.1f} allowed"
    if report.size_bytes > MOST_BYTES:
        yield f"size: {report.size_bytes:,} bytes, at most {MOST_BYTES:,} allowed"
    if report.harmless:
        yield f"file: {report.harmless}"


def _of_cohort(fleet: Fleet, cohort: Cohort) -> Iterator[str]:
    old, new = cohort.champion, cohort.challenger
    allowed = max(MOST_FALSE_ALARMS * fleet.threshold.false_alarms, old.false_alarms_interval[1])
    if new.false_alarms_interval[0] > allowed:
        yield (
            f"cohort {cohort.name}: {new.false_alarms_per_1000_days:.1f} false alarms in 1,000 healthy days, surely "
            f"above {allowed:.1f}"
        )
    if old.faults >= FEWEST_FAULTS and (new.detected or 0.0) < 0.5 * (old.detected or 0.0):
        found, before = 100 * (new.detected or 0.0), 100 * (old.detected or 0.0)
        yield f"cohort {cohort.name}: {found:.0f} % of its faults found, {before:.0f} % by the champion"


def card_lines(report: Gates) -> list[str]:
    """The report as lines of the model's card."""
    old, new = report.replay.champion, report.replay.challenger
    return [
        "## At the gate",
        "",
        f"- False alarms in 1,000 healthy days: {new.false_alarms_per_1000_days:.2f}, the champion "
        f"{old.false_alarms_per_1000_days:.2f}; cost {new.cost:,.0f} and {old.cost:,.0f}, worse in "
        f"{100 * report.replay.probability_worse:.0f} % of samples of vehicles.",
        f"- Canaries: {report.canaries.count - len(report.canaries.lost)} of {report.canaries.count} past faults that "
        "the champion finds are found.",
        f"- {len(report.cohorts)} cohorts looked at; {report.latency_us[1]:.2f} us a reading "
        f"({report.latency_us[0]:.2f} the champion); {report.size_bytes:,} bytes; parity {report.parity:.1e}.",
        *(f"- Against it: {reason}." for reason in report.reasons),
        "",
        "```json",
        msgspec.json.format(msgspec.json.encode(report), indent=2).decode(),
        "```",
        "",
    ]
