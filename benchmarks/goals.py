"""What is to be reached on one core, row by row, and how a figure stands against it."""

from __future__ import annotations

import msgspec


class Goal(msgspec.Struct, frozen=True):
    """A row of the table: `floor` and `aim` in `unit`; None where only the figure is of interest."""

    what: str
    unit: str
    floor: float | None
    aim: float | None
    more: bool = True
    """Whether more is better."""

    def verdict(self, value: float) -> str:
        """Which of the two is reached: aim, floor, no, or nothing where none is set."""
        if self.floor is None or self.aim is None:
            return ""
        sign = 1 if self.more else -1
        return "aim" if sign * value >= sign * self.aim else "floor" if sign * value >= sign * self.floor else "NO"


def _rate(what: str, floor: float | None, aim: float | None) -> Goal:
    return Goal(what, "readings/s", floor, aim)


def _most(what: str, unit: str, floor: float, aim: float) -> Goal:
    return Goal(what, unit, floor, aim, more=False)


GOALS = {
    "default": _rate("10,000 vehicles, batches of 1,024, default", 1e6, 2.4e6),
    "wide": _rate("the same, wide (60 features, PCA)", 0.8e6, 2e6),
    "river-default": Goal("against River per event, default", "x", 25, 50),
    "river-wide": Goal("against River per event, wide", "x", 40, 60),
    "checked": Goal("with cohorts and checks: share of the engine's speed without, default", "%", 80, 90),
    "forest": _rate("isolation forest of 100 trees, wide", 250e3, 450e3),
    "autoencoder": _rate("autoencoder 60-16-4-16-60", 0.8e6, 2e6),
    "arrow": _rate("Arrow IPC input, default", 2.5e6, 5e6),
    "msgpack": _rate("MessagePack input, default", None, None),
    "arrays": _rate("JSON arrays of 64 readings, default", None, None),
    "signals-100": _rate("100 signals a vehicle, default", 250e3, 400e3),
    "signals-300": _rate("300 signals a vehicle, default", 80e3, 140e3),
    "million-time": _most("1,000,000 vehicles: time of 10,000, wide", "x", 1.3, 1.15),
    "million-time-default": Goal("the same, default", "x", None, None, more=False),
    "bytes-default": _most("memory a vehicle, default", "B", 320, 256),
    "bytes-wide": _most("memory a vehicle, wide", "B", 576, 400),
    "resident": _most("VmHWM of the scorer with 1,000,000 vehicles, default", "GB", 0.9, 0.6),
    "batch-p99": _most("CPU of one batch of 1,024, p99, wide", "ms", 2, 1),
    "alone-paused": _most("one reading alone, after a pause of 2 ms, wide", "us", 150, 80),
    "alone-hot": _most("one reading alone, in a hot loop, wide", "us", 40, 15),
    "zipf": _most("a Zipf mix: time of the even mix, wide", "x", 1.5, 1.3),
    "one-vehicle": _most("one vehicle sends all: time of the even mix, wide", "x", 2.5, 1.5),
    "checkpoint-all": _most("checkpoint of 1,000,000 vehicles, all changed, wide", "s", 1.5, 0.7),
    "restore": _most("restore of 1,000,000 vehicles, wide", "s", 0.5, 0.1),
    "checkpoint-part": _most("checkpoint where 1 % of 1,000,000 changed, wide", "ms", 60, 20),
    "pause-growth": _most("longest pause: growth by 500,000 vehicles, wide", "ms", 50, 20),
    "pause-checkpoint": _most("pause: checkpoint of 1,000,000, p99, wide", "ms", 50, 20),
    "log-append": _rate("embedded log: append", 300e3, 600e3),
    "log-score": _rate("embedded log: read and score, a checkpoint a second", 500e3, 1e6),
    "kafka-bare": _most("Kafka, kafka-python, one a message: CPU of a bare poll", "x", 1.3, 1.1),
    "kafka-64": _rate("Kafka, kafka-python, 64 readings a message", 300e3, 800e3),
    "kafka-fast": Goal("Kafka, extra `fast` against kafka-python, one a message", "x", 2.0, 3.0),
    "latency": _most("reading to alert through Kafka at half load, p99", "ms", 1_000, 250),
    "latency-idle": Goal("the same without load, embedded log, p99", "ms", None, None, more=False),
    "start-warm": _most("first decision after `anomaly score`, kernel cache warm", "s", 3, 1),
    "start-cold": _most("first decision after `anomaly score`, kernel cache cold", "s", 20, 8),
    "broken": Goal("10 % of the messages broken: share of the clean speed", "%", 50, 80),
    "odd": Goal("10 % odd but valid: share of the clean speed", "%", None, None),
    "simulate": _rate("simulator: a year of 1,000 vehicles, in order of arrival", 1e6, 2e6),
    "simulate-table": _rate("the same, as Arrow tables", 1e6, 2e6),
    "simulate-files": _rate("the same, as Parquet files, twice (whole, and cut in two)", None, None),
    "help": _most("`anomaly --help`", "s", 0.4, 0.2),
    "halfspace": Goal("against River HalfSpaceTrees, one a vehicle, in a QuantileFilter", "x", None, None),
    "loda": Goal("against PySAD LODA, one for all", "x", None, None),
    "pysad-hst": Goal("against PySAD half-space trees, one for all", "x", None, None),
    "pyod-1": Goal("one reading alone (hot) against PyOD PCA at batch 1", "x", None, None),
    "pyod-1024": Goal("against PyOD PCA at batch 1,024 (score alone, no state)", "x", None, None),
    "pandas": Goal("against pandas, groupby ewm over the history", "x", None, None),
}
"""All rows in the order of the table."""


class Row(msgspec.Struct, frozen=True):
    """A figure of ours beside its peer's; `ratio` is how many times better ours is."""

    key: str
    ours: float
    peer: str = ""
    peers: float | None = None
    note: str = ""

    @property
    def goal(self) -> Goal:
        """What was to be reached."""
        return GOALS[self.key]

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's figure, or the other way round where less is better."""
        if self.peers is None or not self.ours or not self.peers:
            return None
        return self.ours / self.peers if self.goal.more else self.peers / self.ours


def shown(value: float | None, unit: str) -> str:
    """A figure with its unit, some three digits.

    >>> shown(2_345_678.0, "readings/s"), shown(1.0623, "x"), shown(None, "ms")
    ('2,345,678/s', '1.06x', '')
    """
    if value is None:
        return ""
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{number}/s" if unit == "readings/s" else f"{number}x" if unit == "x" else f"{number} {unit}"


def table(rows: list[Row]) -> str:
    """The rows in the order of GOALS, one line each."""
    found = {row.key: row for row in rows}
    lines = [f"{'what':66} {'ours':>12} {'at least':>12} {'aim':>12}  {'peer':38} {'theirs':>12} {'ratio':>8}  met"]
    for key, goal in GOALS.items():
        if row := found.get(key):
            ratio = "" if row.ratio is None else f"{row.ratio:.3g}x"
            figures = [shown(value, goal.unit) for value in (row.ours, goal.floor, goal.aim, row.peers)]
            ours, floor, aim, theirs = figures
            start = f"{goal.what:66} {ours:>12} {floor:>12} {aim:>12}  "
            lines.append(
                f"{start}{row.peer:38} {theirs:>12} {ratio:>8}  {goal.verdict(row.ours)}{row.note and '  '}{row.note}"
            )
    return "\n".join(lines)
