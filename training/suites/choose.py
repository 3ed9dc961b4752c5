"""The table of suites, and what each needs to be told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from anomaly.errors import UsageError
from training.suites.battery import battery
from training.suites.budget import Size, budget
from training.suites.fleets import simulated
from training.suites.nab import nab
from training.suites.novel import novel
from training.suites.own import Files, own
from training.suites.tally import Costs
from training.suites.turbofan import turbofan, turbofan_drift
from training.suites.verdict import Verdict
from training.suites.workers import Said


class Asked(NamedTuple):
    """What a person wants judged: a suite's name or a fleet file, and where its data are; `size` is for `budget`."""

    suite: str
    data: Path | None = None
    events: Path | None = None
    labels: Path | None = None
    size: Size = Size()


PUBLIC: dict[str, Callable[[Path, Costs, Said], list[Verdict]]] = {
    "turbofan": turbofan,
    "turbofan-drift": turbofan_drift,
    "battery": battery,
    "nab": nab,
}
"""Suites on public data: they are given the folder of data sets."""
SIMULATED: dict[str, Callable[[Asked, Costs, Said], list[Verdict]]] = {
    "fleet": lambda _asked, costs, said: simulated(costs, said),
    "novel": lambda _asked, costs, said: novel(costs, said),
    "budget": lambda asked, costs, said: budget(asked.size, costs, said),
}
"""Suites on simulated fleets, which need no data."""


def judge(asked: Asked, costs: Costs, said: Said) -> list[Verdict]:
    """Run a suite. Raises UsageError where it is none, or lacks its data."""
    if asked.suite in PUBLIC:
        if asked.data is None:
            raise UsageError(f"{asked.suite} needs --data, the folder of public data sets")
        return PUBLIC[asked.suite](asked.data, costs, said)
    if asked.suite in SIMULATED:
        return SIMULATED[asked.suite](asked, costs, said)
    path = Path(asked.suite)
    if path.suffix != ".toml":
        raise UsageError(
            f"{asked.suite} is no suite; there are {', '.join([*PUBLIC, *SIMULATED])}, or name a fleet file (.toml)"
        )
    if asked.data is None:
        raise UsageError(f"{asked.suite} needs --data, the fleet's history")
    return own(Files(path, asked.data, asked.events, asked.labels), costs, said)
