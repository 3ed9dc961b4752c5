"""What happens to a vehicle beside its readings, as the engine is told of it."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Action(IntEnum):
    """What an event does, before its vehicle's first reading with `ts` at or after its own.

    RESTART: the baseline of its signals is learned again. UNDO: the baseline before the restart `undoes` is back.
    BEGIN and END of maintenance: no alarm and no learning between them. CONFIRM a fault that lasted to `until`: no
    learning until it is over, and none of that if the baseline began again since; what alarms that came to nothing had
    raised the threshold by is taken back at any rate.
    ANSWER: a lasting shift is answered, a confirmed fault over. ACCEPT: both, and a restart. RETIRE: silence is meant.
    DISMISS: as ANSWER, and if the vehicle is in alarm since `until` or before, what is normal moves by the evidence.
    """

    RESTART = 0
    UNDO = 1
    BEGIN = 2
    END = 3
    CONFIRM = 4
    ANSWER = 5
    ACCEPT = 6
    RETIRE = 7
    DISMISS = 8


RESTARTS = (Action.RESTART, Action.ACCEPT, Action.DISMISS)
"""The actions after which a vehicle may have another normal."""


class Event(NamedTuple):
    """`id` tells it from others, `signals` are positions of those it is about (none: all), `undoes` another's id,
    `until` the latest begin of an episode that is dismissed, or the last time at which a confirmed fault was seen."""

    id: str
    vehicle: str
    ts: int
    action: Action = Action.RESTART
    signals: tuple[int, ...] = ()
    undoes: str = ""
    until: int = 0


class Kept(NamedTuple):
    """The baseline before a restart: its `ts`, and float32[d] as bytes (none: the vehicle had no baseline yet), NaN for
    signals that the restart was not about, or whose baseline was not known."""

    ts: int
    baseline: bytes
