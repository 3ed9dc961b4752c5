"""What a partition has to write down at its next checkpoint."""

from __future__ import annotations

from anomaly.engine.events import Event
from anomaly.service.stored import Control, Letter


class Fresh:
    """What happened since the last checkpoint; `due_s` is when the next one must be."""

    def __init__(self) -> None:
        self.control: list[Control] = []
        self.letters: list[Letter] = []
        self.unseen: dict[str, list[Event]] = {}
        self.met: list[str] = []
        self.idle: dict[str, bytes] = {}
        self.returned: list[str] = []
        self.readings = 0
        self.changed = False
        self.due_s = float("inf")

    def until(self, due_s: float) -> None:
        """Something changed that has to be written by `due_s`."""
        self.changed = True
        self.due_s = min(self.due_s, due_s)
