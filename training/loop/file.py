"""`loop.toml`: what a person decides about the autopilot. Without the file the defaults hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from anomaly import settings
from training.loop.triggers import Rules
from training.loop.windows import Spans

Days = Annotated[float, Meta(gt=0.0, le=3_660.0)]
Count = Annotated[int, Meta(ge=0)]


class LoopFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When to train, on what, how long to try, and which steps wait for a person; 0 turns a trigger off."""

    every_days: Annotated[float, Meta(ge=0.0)] = 28.0
    labels: Count = 50
    drift_days: Count = 7
    quiet_days: Count = 56
    """So many days after a promotion without too many alerts say what is usual; 0: only a person says it."""
    window_days: Days = 400.0
    """A year of seasons and a month: what healthy vehicles do over time is learned from it."""
    holdout_days: Days = 28.0
    cap: Annotated[float, Meta(ge=1.0)] = 2.0
    """Most readings of a vehicle, as a multiple of the median vehicle's."""
    shadow_days: Days = 7.0
    """So long the candidate is scored beside the champion, and until labels are due; three times as long if it cannot
    be read then."""
    min_days: Days = 14.0
    max_days: Days = 42.0
    label_delay_days: Annotated[float, Meta(ge=0.0, le=60.0)] = 14.0
    margin: Annotated[float, Meta(gt=0.0)] = 3.0
    """False alarms in 1,000 vehicle-days that a challenger may surely not have more than."""
    seed: Count = 0
    wait_for_person: tuple[Literal["retrain", "gate", "shadow", "experiment", "promote", "roll_back"], ...] = ()

    @property
    def rules(self) -> Rules:
        """When to train."""
        return Rules(self.every_days, self.labels, self.drift_days)

    @property
    def spans(self) -> Spans:
        """What on."""
        return Spans(self.window_days, self.holdout_days, self.cap)


def load_loop(path: Path) -> LoopFile:
    """The file, or the defaults where there is none. Raises ConfigError with everything that is wrong with it."""
    return settings.load(path, LoopFile) if path.exists() else LoopFile()
