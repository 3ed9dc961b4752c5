"""The bytes of state: what a piece of it holds, and what it must fit to be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.engine.frame import Frame
from anomaly.errors import StateError
from anomaly.telemetry.text import Text

VERSION = 8
"""1 to 3 were never released."""
Waiting = Sequence[tuple[Any, ...]]
"""Events that wait, as tuples of the fields of `anomaly.engine.events.Event`."""


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to no vehicle: the clock, events that wait (None: as before), and the rows of cohorts
    and their calendar."""

    clock: bytes
    waiting: list[tuple[str, str, int, int, tuple[int, ...], str, int]] | None
    cohort_keys: list[str]
    cohort_rows: bytes
    cohorts: tuple[bytes, ...]


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of state. `gone` are slots that were given up; `records` those of `slots`, all int32; `named` says which
    of `slots` are new, with the bytes of their ids after their `lengths` (uint16); `quantiles` one row a model."""

    version: int
    frame: str
    record: int
    gone: bytes = b""
    slots: bytes = b""
    records: bytes = b""
    named: bytes = b""
    lengths: bytes = b""
    names: bytes = b""
    quantiles: dict[str, bytes] = {}
    q_fleet: dict[str, float] = {}
    rest: Rest | None = None

    def text(self) -> Text:
        """The ids of `named`."""
        edge = np.concatenate([[0], np.cumsum(np.frombuffer(self.lengths, np.uint16), dtype=np.int64)])
        return Text(np.frombuffer(self.names, np.uint8), edge[:-1], edge[1:])


class _Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """What pieces of all versions have."""

    version: int


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """One vehicle by itself: its record, and its own quantile of each model's scores."""

    version: int
    frame: str
    record: bytes
    quantiles: dict[str, float]


def decoded(blob: bytes, frame: Frame, record: int) -> Saved:
    """A piece of state. StateError if it is none, newer than this program, or of another frame."""
    try:
        _check_version(msgspec.msgpack.decode(blob, type=_Stamp).version)
        saved = msgspec.msgpack.decode(blob, type=Saved)
    except msgspec.MsgspecError as error:
        raise StateError(f"this is no state of vehicles: {error}") from error
    check(saved, frame)
    if saved.record != record:
        raise StateError(
            f"the state's records have {saved.record} bytes, here {record}; start again with --fresh-state"
        )
    return saved


def check(saved: Saved | Idle, frame: Frame) -> None:
    """StateError if the bytes are of another version, or of another frame."""
    _check_version(saved.version)
    if saved.frame != frame.digest:
        raise StateError(
            f"the state belongs to frame {saved.frame[:12]}, the model to {frame.digest[:12]}; "
            "use a model of that frame, or start again with --fresh-state"
        )


def _check_version(version: int) -> None:
    if version > VERSION:
        raise StateError(f"state version {version} is newer than this program reads ({VERSION}); update it")
    if version < VERSION:
        raise StateError(f"state version {version} cannot be read any more; start again with --fresh-state")


def lengths(text: Text) -> NDArray[np.uint16]:
    """The bytes of each string."""
    return (text.stop - text.start).astype(np.uint16)
