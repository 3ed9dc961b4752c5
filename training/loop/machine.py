"""The autopilot's state machine: one cycle at a time, every step written down before the next, in one SQLite file.

watch -> retrain -> gate -> shadow -> experiment -> promote | roll_back -> watch. A step is done by a function given
from outside, which may be called again after a crash and must then change nothing more; the machine moves on in one
transaction. It knows no model, no clock and no registry.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import msgspec

from anomaly.errors import DataError, UsageError

State = Literal["watch", "retrain", "gate", "shadow", "experiment", "promote", "roll_back"]
STATES: tuple[State, ...] = get_args(State)
NEXT: Mapping[State, tuple[State, ...]] = {
    "watch": ("retrain",),
    "retrain": ("gate", "watch"),
    "gate": ("shadow", "watch"),
    "shadow": ("experiment", "roll_back"),
    "experiment": ("promote", "roll_back"),
    "promote": ("watch",),
    "roll_back": ("watch",),
}
"""Which states may follow."""
VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS cycle (
    id INTEGER PRIMARY KEY, state TEXT NOT NULL, since INTEGER NOT NULL, facts BLOB NOT NULL, reason TEXT NOT NULL,
    approved TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS trail (
    id INTEGER PRIMARY KEY, cycle INTEGER NOT NULL, left TEXT NOT NULL, entered TEXT NOT NULL, at INTEGER NOT NULL,
    reason TEXT NOT NULL
);
"""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a cycle knows: why it began and the cutoff of its data, its model's number once published, the id of its
    last experiment, whether the shadow passed; `failed` says why it ends without a promotion."""

    cause: str = ""
    why: str = ""
    cutoff: int = 0
    number: int | None = None
    experiment: str | None = None
    paired: bool = False
    failed: str = ""


class Cycle(NamedTuple):
    """Where a cycle stands: in `state` `since` (in the fleet's time unit), for `reason`; `approved` is a state that a
    person let go on."""

    id: int
    state: State
    since: int
    facts: Facts
    reason: str
    approved: str


class Went(NamedTuple):
    """A step is done: the next state, why, and what the cycle knows by now."""

    state: State
    reason: str
    facts: Facts


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the trail: which state a cycle left for which, when and why."""

    cycle: int
    left: str
    entered: str
    at: int
    reason: str


Step = Callable[[Cycle, int], Went | None]
"""From the cycle and the time now to what came of the step; None: nothing yet. Safe to be called again."""
Passed = Callable[[str], None]
"""Told the name of each place at which a test may kill the process."""
PLACES = tuple(f"{state}.{place}" for state in STATES for place in ("before", "done", "moved"))


class Store:
    """`loop.db`: the cycle under way, those before it, and the trail. One process at a time writes."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30.0)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
            self._check_version()
        except sqlite3.Error as error:
            raise DataError(f"{path} cannot be used: {error}") from error

    def _check_version(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise DataError(f"{self.path} is of version {version}, this program reads {VERSION}; update it")
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def current(self, at: int) -> Cycle:
        """The cycle under way; the first one begins at `at`."""
        self._db.execute(
            "INSERT INTO cycle (id, state, since, facts, reason) SELECT 1, 'watch', ?, ?, 'the loop began' "
            "WHERE NOT EXISTS (SELECT 1 FROM cycle)",
            (at, msgspec.json.encode(Facts())),
        )
        found = self.under_way()
        assert found is not None
        return found

    def under_way(self) -> Cycle | None:
        """The cycle under way; None: the loop has not begun."""
        found = self._db.execute(
            "SELECT id, state, since, facts, reason, approved FROM cycle ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if found is None:
            return None
        identity, state, since, facts, reason, approved = found
        return Cycle(identity, state, since, msgspec.json.decode(facts, type=Facts), reason, approved)

    def move(self, cycle: Cycle, went: Went, at: int) -> None:
        """Leave the cycle's state for the next: all of it or nothing. A cycle that comes back to watching is over and
        the next begins. Raises DataError if another process has moved it."""
        if went.state not in NEXT[cycle.state]:
            raise ValueError(f"{cycle.state} does not lead to {went.state}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            moved = self._move(cycle, went, at)
            self._db.execute("COMMIT" if moved else "ROLLBACK")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        if not moved:
            raise DataError(f"{self.path}: another process has moved cycle {cycle.id} on; run one loop at a time")

    def _move(self, cycle: Cycle, went: Went, at: int) -> bool:
        changed = self._db.execute(
            "UPDATE cycle SET state = ?, since = ?, facts = ?, reason = ?, approved = '' "
            "WHERE id = ? AND state = ? AND id = (SELECT max(id) FROM cycle)",
            (went.state, at, msgspec.json.encode(went.facts), went.reason, cycle.id, cycle.state),
        ).rowcount
        if changed != 1:
            return False
        self._db.execute(
            "INSERT INTO trail (cycle, left, entered, at, reason) VALUES (?, ?, ?, ?, ?)",
            (cycle.id, cycle.state, went.state, at, went.reason),
        )
        if went.state == "watch":
            self._db.execute(
                "INSERT INTO cycle (id, state, since, facts, reason) VALUES (?, 'watch', ?, ?, ?)",
                (cycle.id + 1, at, msgspec.json.encode(Facts()), f"cycle {cycle.id}: {went.reason}"),
            )
        return True

    def approve(self, state: State) -> Cycle:
        """Let the cycle do its step in `state`, for which it waits. Raises UsageError if it is not there."""
        cycle = self.under_way()
        if cycle is None or cycle.state != state:
            where = f"cycle {cycle.id} is in {cycle.state}, not in {state}" if cycle else "the loop has not begun"
            raise UsageError(f"{where}: there is nothing to approve")
        self._db.execute("UPDATE cycle SET approved = ? WHERE id = ? AND state = ?", (state, cycle.id, state))
        return cycle

    def trail(self) -> list[Passage]:
        """Everything that was done, oldest first."""
        rows = self._db.execute("SELECT cycle, left, entered, at, reason FROM trail ORDER BY id")
        names = ("cycle", "left", "entered", "at", "reason")
        return [Passage(**dict(zip(names, row, strict=True))) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


class Machine(NamedTuple):
    """A store, the function of each state, and the states in which a person has to say yes before the step."""

    store: Store
    steps: Mapping[State, Step]
    wait_for_person: frozenset[State] = frozenset()
    passed: Passed = lambda _place: None

    def advance(self, at: int) -> bool:
        """Do the step of the present state, if there is something to do; answers whether it moved on."""
        cycle = self.store.current(at)
        if self.waits(cycle):
            return False
        self.passed(f"{cycle.state}.before")
        went = self.steps[cycle.state](cycle, at)
        if went is None:
            return False
        self.passed(f"{cycle.state}.done")
        self.store.move(cycle, went, at)
        self.passed(f"{cycle.state}.moved")
        return True

    def waits(self, cycle: Cycle) -> bool:
        """Whether a person has to approve first."""
        return cycle.state in self.wait_for_person and cycle.approved != cycle.state

    def run_once(self, at: int) -> int:
        """All steps that can be done now, at most one whole cycle of them; answers how many."""
        for done in range(len(STATES)):
            if not self.advance(at):
                return done
        return len(STATES)
