"""What events do to a vehicle's record, in kernels: restarts and their undoing, maintenance, confirmed faults."""

from __future__ import annotations

import numpy as np

from anomaly.compile import rare
from anomaly.engine.baseline import forget
from anomaly.engine.conformal import forget_past
from anomaly.engine.events import Action
from anomaly.engine.layout import (
    ALARMS,
    ANSWERED,
    BEGAN_AGAIN,
    BELIEVED,
    BORN,
    CONFIRMED,
    COUNT,
    DISMISSED,
    EXCUSED,
    F4,
    FLAGS,
    MAINTENANCE,
    MOVED,
    NEVER,
    PARTIAL,
    RELEARNING,
    RESTARTED,
    SETTLED,
    START,
    State,
    Waiting,
)

RESTART, UNDO, BEGIN, END = int(Action.RESTART), int(Action.UNDO), int(Action.BEGIN), int(Action.END)
CONFIRM, ANSWER, ACCEPT, RETIRE = int(Action.CONFIRM), int(Action.ANSWER), int(Action.ACCEPT), int(Action.RETIRE)
DISMISS = int(Action.DISMISS)


@rare
def restart(slot: int, event: int, burn_in: int, state: State, waiting: Waiting) -> None:
    """Forget what is normal of the event's signals, and keep what it was; threshold and episodes go on."""
    signals = waiting.signals.shape[1]
    at = state.at
    warm = state.i4[slot, COUNT] >= burn_in
    whole = True
    for j in range(signals):
        whole = whole and waiting.signals[event, j]
    waiting.kept_ts[event] = waiting.ts[event] if warm else NEVER
    for j in range(signals):
        known = waiting.signals[event, j] and state.u2[slot, at.burned + j] == SETTLED
        waiting.kept[event, j] = state.f4[slot, at.baseline + j] if known else F4(np.nan)
        if waiting.signals[event, j]:
            state.f4[slot, at.baseline + j] = F4(0.0)
            state.f4[slot, at.last + j] = F4(np.nan)
            state.u2[slot, at.burned + j] = 0
            if warm and not whole:
                state.u1[slot, at.silent + j] = RELEARNING
            elif state.u1[slot, at.silent + j] == RELEARNING:
                state.u1[slot, at.silent + j] = 0
            forget(slot, j, state)
            forget_past(slot, j, state)
    if whole:
        state.i4[slot, COUNT] = 0
    elif warm:
        state.u1[slot, FLAGS] |= np.uint8(PARTIAL)


@rare
def undo(slot: int, event: int, burn_in: int, state: State, waiting: Waiting) -> None:
    """Put the baseline back that the vehicle had before its last restart, if that is the one to undo.

    Signals that had none then, or that the restart was not about, go on as they are.
    """
    signals = waiting.signals.shape[1]
    at = state.at
    target = waiting.undoes[event]
    if target < 0 or waiting.kept_ts[target] == NEVER or waiting.kept_ts[target] != state.i8[slot, RESTARTED]:
        return
    warm = state.i4[slot, COUNT] >= burn_in
    learning = 0
    for j in range(signals):
        kept = waiting.kept[target, j]
        if np.isfinite(kept):
            again = state.u1[slot, at.silent + j] == RELEARNING
            if again or not warm or kept != state.f4[slot, at.baseline + j]:
                forget(slot, j, state)
            state.f4[slot, at.baseline + j] = kept
            state.u2[slot, at.burned + j] = SETTLED
            if state.u1[slot, at.silent + j] == RELEARNING:
                state.u1[slot, at.silent + j] = 0
        elif not warm:
            state.u1[slot, at.silent + j] = RELEARNING
        learning += 1 if state.u1[slot, at.silent + j] == RELEARNING else 0
    state.i4[slot, COUNT] = max(state.i4[slot, COUNT], burn_in)
    if learning > 0:
        state.u1[slot, FLAGS] |= np.uint8(PARTIAL)


@rare
def in_alarm(slot: int, until: int, state: State) -> bool:
    """Whether the vehicle's episode of kind fault, open now, began at `until` or before."""
    open_ = state.i4[slot, ALARMS] > 0 and state.u1[slot, FLAGS] & BORN == 0
    return bool(open_ and state.i8[slot, START] <= until)


@rare
def dismiss(slot: int, event: int, burn_in: int, state: State, waiting: Waiting) -> int:
    """What alarmed is no fault: what is normal moves by the evidence, and is kept as it was; else nothing happens."""
    at = state.at
    waiting.kept_ts[event] = NEVER
    if waiting.ts[event] <= state.i8[slot, RESTARTED] or state.i4[slot, COUNT] < burn_in:
        return 0
    if not in_alarm(slot, waiting.until[event], state):
        return DISMISSED
    for j in range(waiting.signals.shape[1]):
        known = state.u2[slot, at.burned + j] == SETTLED
        waiting.kept[event, j] = state.f4[slot, at.baseline + j] if known else F4(np.nan)
        state.f4[slot, at.baseline + j] += state.f4[slot, at.evidence + j]
        forget(slot, j, state)
    state.i8[slot, RESTARTED] = waiting.kept_ts[event] = waiting.ts[event]
    return DISMISSED | MOVED | BEGAN_AGAIN


@rare
def maintain(slot: int, action: int, state: State) -> int:
    """Maintenance begins or ends, or the vehicle retired: silence is meant."""
    times = int(state.u1[slot, MAINTENANCE])
    if action == BEGIN:
        state.u1[slot, MAINTENANCE] = np.uint8(min(times + 1, 255))
    elif action == END:
        state.u1[slot, MAINTENANCE] = np.uint8(max(times - 1, 0))
    return EXCUSED


@rare
def happen(slot: int, event: int, burn_in: int, state: State, waiting: Waiting) -> int:
    """One event takes effect; answers the bits of `note` that it leads to."""
    action = waiting.action[event]
    note = 0
    if action in (ANSWER, ACCEPT, DISMISS):
        state.u1[slot, FLAGS] &= np.uint8(255 - CONFIRMED)
    if action in (RESTART, ACCEPT) and waiting.ts[event] > state.i8[slot, RESTARTED]:
        restart(slot, event, burn_in, state, waiting)
        state.i8[slot, RESTARTED] = waiting.ts[event]
        state.u1[slot, MAINTENANCE] = 0
        state.u1[slot, FLAGS] &= np.uint8(255 - CONFIRMED)
        note = BEGAN_AGAIN
    elif action == UNDO:
        undo(slot, event, burn_in, state, waiting)
        note = BEGAN_AGAIN
    elif action in (BEGIN, END, RETIRE):
        note = maintain(slot, action, state)
    elif action == CONFIRM:
        note = BELIEVED
        if waiting.until[event] > state.i8[slot, RESTARTED]:
            state.u1[slot, FLAGS] |= np.uint8(CONFIRMED)
    elif action == DISMISS:
        note = dismiss(slot, event, burn_in, state, waiting)
    return note | (ANSWERED if action in (ANSWER, ACCEPT, CONFIRM, DISMISS) else 0)
