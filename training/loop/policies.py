"""What may be done about a champion over a year: nothing, naive retraining, the loop, and the loop without a part."""

from __future__ import annotations

from typing import NamedTuple

from training.loop.triggers import Rules
from training.loop.windows import Spans


class Policy(NamedTuple):
    """`rules` None: the champion is never trained again. `alarmed_only`: only vehicles that alarmed are learned from.
    `audit`, `gate`, `experiment`: whether that part is there; `told`: whether verdicts reach the scorer."""

    name: str
    rules: Rules | None
    alarmed_only: bool = False
    audit: bool = True
    gate: bool = True
    experiment: bool = True
    told: bool = True


SPANS = Spans(window_days=500.0, holdout_days=14.0)
RULES = Rules(every_days=42.0, labels=150, drift_days=10)
POLICIES = (
    Policy("frozen", None),
    Policy("deaf", None, audit=False, told=False),
    Policy("naive", RULES, alarmed_only=True, audit=False, gate=False, experiment=False),
    Policy("loop", RULES),
    Policy("no-audit", RULES, audit=False),
    Policy("no-gate", RULES, gate=False),
    Policy("no-experiment", RULES, experiment=False),
)
