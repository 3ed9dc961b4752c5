"""What an experiment has come to: `<id>.state.json`, replaced whole, and `audit.jsonl`, only ever added to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from anomaly.disk import replace_file
from anomaly.errors import DataError
from anomaly.experiments.compare import Comparison, Result
from anomaly.experiments.file import Experiment

Status = Literal["running", "promoting", "rolling_back", "promoted", "rolled_back", "stopped"]
ACTIVE: frozenset[Status] = frozenset({"running", "promoting"})
"""While it is one of these, vehicles are in arms; else everybody scores with the champion."""
VERSION = 2


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the ramp that was taken: the share from `at` (in the fleet's time unit) on.

    `eligible` is the file with the keys of the vehicles that may take part, None where all may.
    """

    share: float
    at: int
    eligible: str | None = None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Where one revision of an experiment stands; written by the controller alone, whenever that changes.

    `experiment` is the file as it was when it began: that is what runs, whatever becomes of the file. `models` are
    the models of its arms at that time ("fleet/3") and `digests` theirs, `steps` the ramp so far, `verdict` the last
    one with its `reason`, `read_at` when a fixed read-out was taken; times in the fleet's time unit.
    """

    id: str
    revision: int
    digest: str
    status: Status
    experiment: Experiment
    models: dict[str, str]
    digests: dict[str, str]
    steps: list[Taken]
    at: int
    verdict: Result | None = None
    reason: str = ""
    read_at: int | None = None
    version: int = VERSION

    @property
    def share(self) -> float:
        """The share of the ramp that holds now."""
        return self.steps[-1].share


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the audit trail: what was done to an experiment, when, and on what evidence."""

    at: int
    id: str
    revision: int
    act: str
    reason: str
    evidence: Comparison | None = None


def state_path(folder: Path, experiment: str) -> Path:
    """Where the state of an experiment is."""
    return folder / f"{experiment}.state.json"


def read_state(folder: Path, experiment: str) -> State | None:
    """The state of an experiment, None if it has not begun. Raises DataError for a file that cannot be used."""
    path = state_path(folder, experiment)
    if not path.exists():
        return None
    try:
        return parse_state(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be used: {error}; remove it to begin the experiment again") from error


def parse_state(content: bytes) -> State:
    """A state from the bytes of its file. Raises ValueError if they cannot be used."""
    state = msgspec.json.decode(content, type=State)
    if state.version != VERSION or not state.steps:
        raise ValueError(f"it is of version {state.version}, this program reads {VERSION}")
    return state


def write_state(folder: Path, state: State) -> None:
    """Replace the state file whole: written aside, synced, renamed. Raises DataError if it cannot be written."""
    path = state_path(folder, state.id)
    try:
        replace_file(path, msgspec.json.format(msgspec.json.encode(state)) + b"\n")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error


def add_entry(folder: Path, entry: Entry) -> None:
    """Add a line to `audit.jsonl`, on disk when this returns. Raises DataError if it cannot be written.

    What a crash left of a line is taken away first.
    """
    path = folder / "audit.jsonl"
    try:
        with path.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(msgspec.json.encode(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error


def read_audit(folder: Path, experiment: str) -> list[Entry]:
    """The audit trail of one experiment, oldest first; a line that a crash cut short does not count."""
    path = folder / "audit.jsonl"
    if not path.exists():
        return []
    content = path.read_bytes()
    try:
        entries = msgspec.json.Decoder(Entry).decode_lines(content[: content.rfind(b"\n") + 1])
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise DataError(f"{path} cannot be used: {error}") from error
    return [entry for entry in entries if entry.id == experiment]
