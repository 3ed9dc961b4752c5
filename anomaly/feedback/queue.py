"""What is worth a technician's next hour: alerts by what it costs to leave them, vehicles that the audit drew, and
those for which only a model that is tried would alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from anomaly.feedback.outcomes import CONFIRMED_STATE, FALSE_ALARM, IMMATURE, UNLABELLED

MISSED_COST, LOOK_COST = 500.0, 10.0
"""What a missed fault and a needless look cost, in the same unit (10 : 500 as in the headline figures)."""
LEVELS = (1.5, 2.0, 3.0)
"""Alerts of the same severity are taken to be alike."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to look at. `expected_cost` is what leaving it costs beyond what looking costs; `chance` of a fault."""

    vehicle: str
    reason: Literal["alert", "audit", "shadow"]
    expected_cost: float
    chance: float
    alert: str | None = None
    kind: str | None = None
    since: int | None = None
    level: float | None = None
    why: str = ""


def chances(episodes: Sequence[Mapping[str, Any]]) -> list[float]:
    """For each severity 1..4 the share of answered alerts that were confirmed, with one fault and one false alarm more.

    The two that are added (Laplace) keep a severity without answers at one half.
    """
    found = [[1, 2] for _ in range(len(LEVELS) + 1)]
    for row in episodes:
        if row["kind"] != "sensor" and row["state"] in (CONFIRMED_STATE, FALSE_ALARM):
            place = _place(row["level"])
            found[place][0] += row["state"] == CONFIRMED_STATE
            found[place][1] += 1
    return [confirmed / answered for confirmed, answered in found]


def alert_tasks(episodes: Sequence[Mapping[str, Any]], answered: frozenset[str]) -> list[Task]:
    """A task for each alert that nobody answered; a sensor fault is a cheap look, and no task here."""
    chance = chances(episodes)
    tasks = []
    for row in episodes:
        if row["kind"] == "sensor" or row["state"] not in (IMMATURE, UNLABELLED) or row["episode"] in answered:
            continue
        place = _place(row["level"])
        tasks.append(
            Task(
                vehicle=row["vehicle"],
                reason="alert",
                expected_cost=round(chance[place] * MISSED_COST - (1 - chance[place]) * LOOK_COST, 1),
                chance=round(chance[place], 4),
                alert=row["episode"],
                kind=row["kind"],
                since=row["start"],
                level=round(row["level"], 3),
                why=f"{chance[place]:.0%} of the answered alerts of severity {place + 1} were faults",
            )
        )
    return tasks


def shadow_tasks(
    alone: Sequence[Mapping[str, Any]], episodes: Sequence[Mapping[str, Any]], judged: frozenset[str]
) -> list[Task]:
    """A task for each vehicle with an episode that a shadow `alone` would have raised, the highest of its own.

    `episodes` are the alerts that were: how sure their severities were is all that is known of it. Without a look such
    an episode counts as the shadow's false alarm; vehicles that were `judged` lately are left out.
    """
    chance, tasks = chances(episodes), {}
    for row in sorted(alone, key=lambda row: row["level"]):
        if row["vehicle"] in judged:
            continue
        own = chance[_place(row["level"])]
        tasks[row["vehicle"]] = Task(
            vehicle=row["vehicle"],
            reason="shadow",
            expected_cost=round(own * MISSED_COST - (1 - own) * LOOK_COST, 1),
            chance=round(own, 4),
            since=row["start"],
            level=round(row["level"], 3),
            why=f"{row['model']}, which is tried as a shadow, would alarm; the model that acts does not",
        )
    return list(tasks.values())


def audit_tasks(drawn: Sequence[tuple[str, int, float]], unseen: float) -> list[Task]:
    """A task for each vehicle that was drawn; `unseen` is the chance of a vehicle to have a fault without an alarm.

    They are few and keep the estimate of recall honest, so that they are done whatever they cost.
    """
    return [
        Task(
            vehicle=vehicle,
            reason="audit",
            expected_cost=round(unseen * MISSED_COST - (1 - unseen) * LOOK_COST, 1),
            chance=round(unseen, 4),
            since=ts,
            why=f"drawn with probability {share:g}, whatever its score: recall is estimated from these",
        )
        for vehicle, ts, share in drawn
    ]


def ordered(tasks: Sequence[Task]) -> list[Task]:
    """The dearest first; of equal ones the higher level, then by name."""
    return sorted(tasks, key=lambda task: (-task.expected_cost, -(task.level or 0.0), task.vehicle, task.alert or ""))


def _place(level: float) -> int:
    return sum(level >= line for line in LEVELS)
