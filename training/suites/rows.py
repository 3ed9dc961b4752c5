"""The rows of a table: the product, what is scored without it, and the product with one part taken out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np

from anomaly.engine.events import RESTARTS
from anomaly.engine.frame import Frame
from anomaly.errors import GateError
from anomaly.fleet import Shares
from training.history import History
from training.suites.baselines import BASELINES, always, at_budget, look, naive_adaptive
from training.suites.case import Case, Played, train_and_test

PRODUCT = "product"
ALWAYS = "always alarm"
NAIVE_AFTER = "naive adaptive, after the cohort"
BUDGETS = (1.0, 5.0, 20.0)

FrameChange = Callable[[Frame], Frame]


class Part(NamedTuple):
    """What a row takes out of the product: from the case (None where the fleet has no such part), from the frame."""

    name: str
    change: Callable[[Case], Case | None]
    frame: FrameChange | None = None


class Line(NamedTuple):
    """What one row decided at one budget; None where training refused it, and why."""

    row: str
    budget: float
    played: Played | None
    refused: str = ""


def lines(
    case: Case,
    budgets: tuple[float, ...] = BUDGETS,
    parts: tuple[Part, ...] | None = None,
    more: Callable[[Case, Frame], Iterator[Line]] | None = None,
) -> Iterator[Line]:
    """All rows at all budgets: the product first, then the rows without it, then `parts` (all of them, if None), then
    `more` rows, which are made with the product's frame.

    Parts that the fleet does not have are left out.
    """
    kept: Frame | None = None
    for budget in budgets:
        played, trained = train_and_test(case.at(budget), kept)
        kept = trained.frame
        yield Line(PRODUCT, budget, played)
    if kept is None:
        return
    both = look(case, cohortless(kept))
    for name, score in BASELINES.items():
        scored = score(both)
        yield from (Line(name, budget, at_budget(both, scored, budget)) for budget in budgets)
    if kept.cohort is not None:
        whole = look(case, kept)
        scored = naive_adaptive(whole)
        yield from (Line(NAIVE_AFTER, budget, at_budget(whole, scored, budget)) for budget in budgets)
    yield from (Line(ALWAYS, budget, always(both)) for budget in budgets)
    for part in PARTS if parts is None else parts:
        yield from _without(part, case, kept, budgets)
    if more is not None:
        yield from more(case, kept)


def _without(part: Part, case: Case, frame: Frame, budgets: tuple[float, ...]) -> Iterator[Line]:
    changed = part.change(case)
    if changed is None:
        return
    kept = part.frame(frame) if part.frame else None
    for budget in budgets:
        try:
            played, trained = train_and_test(changed.at(budget), kept)
        except GateError as error:
            yield Line(part.name, budget, None, str(error))
        else:
            kept = trained.frame
            yield Line(part.name, budget, played)


def _offline(case: Case) -> Case:
    """Without what is learned online, and without the checks that have a kind of alarm of their own."""
    plain = {
        name: msgspec.structs.replace(signal, min=None, max=None, max_step=None, stuck_after=0)
        for name, signal in case.fleet.signals.items()
    }
    shares = Shares(born_ill=0.0, cohort=0.0, abrupt=0.0, silence=0.0)
    alerts = msgspec.structs.replace(case.fleet.alerts, lasting_after=0)
    made = _frozen((_without_cohort(case) or case).with_fleet(signals=plain, alerts=alerts))
    return made.with_fleet(threshold=msgspec.structs.replace(made.fleet.threshold, share=shares))


def _without_regime(case: Case) -> Case | None:
    if not case.fleet.context.regime:
        return None
    signals = len(case.fleet.signals)

    def cut(history: History) -> History:
        return history._replace(batch=replace(history.batch, values=history.batch.values[:, :signals]))

    made = case.with_fleet(context=msgspec.structs.replace(case.fleet.context, regime=()))
    return made._replace(past=cut(case.past), test=cut(case.test))


def _without_cohort(case: Case) -> Case | None:
    if case.fleet.context.cohort is None:
        return None
    return case.with_fleet(context=msgspec.structs.replace(case.fleet.context, cohort=None))


def _without_evidence(case: Case) -> Case:
    return case.with_fleet(model=msgspec.structs.replace(case.fleet.model, time_constant=1))


def _without_label_term(case: Case) -> Case | None:
    if not case.past.faults:
        return None
    return case.with_fleet(model=msgspec.structs.replace(case.fleet.model, label_term="none"))


def _without_events(case: Case) -> Case | None:
    """No restart is known of, as if nobody had told; what counts as healthy stays."""

    def untold(history: History) -> History:
        return history._replace(events=[event for event in history.events if event.action not in RESTARTS])

    if not case.past.restarts and not case.test.restarts:
        return None
    return case._replace(past=untold(case.past), test=untold(case.test))


def _without_birth(case: Case) -> Case | None:
    return _without_share(case, "born_ill")


def _without_cohort_check(case: Case) -> Case | None:
    return None if case.fleet.context.cohort is None else _without_share(case, "cohort")


def _without_share(case: Case, kind: str) -> Case | None:
    """Without a check that has alarms of its own: its part of the budget goes to faults."""
    share = case.fleet.threshold.share
    if not getattr(share, kind):
        return None
    less = msgspec.structs.replace(share, **{kind: 0.0})
    return case.with_fleet(threshold=msgspec.structs.replace(case.fleet.threshold, share=less))


def _without_lasting_shift(case: Case) -> Case | None:
    if not case.fleet.alerts.lasting_after:
        return None
    return case.with_fleet(alerts=msgspec.structs.replace(case.fleet.alerts, lasting_after=0))


def _same_frame(frame: Frame) -> Frame:
    return frame


def _frozen(case: Case) -> Case:
    return case.with_fleet(threshold=msgspec.structs.replace(case.fleet.threshold, kind="frozen"))


def no_baseline(frame: Frame) -> Frame:
    """The frame with every vehicle's normal taken to be the fleet's."""
    zeros = np.zeros((len(frame.signals), len(frame.signals)))
    return msgspec.structs.replace(frame, gain=tuple(map(tuple, zeros.tolist())))


def cohortless(frame: Frame) -> Frame:
    """The frame without what a cohort has in common, which the plain ideas do not know of."""
    return msgspec.structs.replace(frame, cohort=None, period=0)


def _alone(frame: Frame) -> Frame:
    bare = cohortless(no_baseline(frame))
    return msgspec.structs.replace(bare, basis=(), between=(), step=(), rhythm=0.0)


PARTS: tuple[Part, ...] = (
    Part("offline only", _offline, _alone),
    Part("no regime", _without_regime),
    Part("no cohort", _without_cohort, cohortless),
    Part("no baseline", lambda case: case, no_baseline),
    Part("no evidence", _without_evidence),
    Part("no label term", _without_label_term, _same_frame),
    Part("no adaptation", _frozen, _same_frame),
    Part("no events", _without_events, _same_frame),
    Part("no born-ill check", _without_birth, _same_frame),
    Part("no cohort check", _without_cohort_check, _same_frame),
    Part("no lasting shift", _without_lasting_shift, _same_frame),
)
