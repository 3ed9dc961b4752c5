"""Where the time of a scorer goes: wall time by stage, always on, at one look at the clock a batch and stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily

STAGES = {
    "poll": "messages from the log, waiting for them included",
    "events": "events and labels that came meanwhile",
    "decode": "bytes to arrays",
    "slot": "vehicles to their records, new, idle and returned ones",
    "features": "quality, context, baseline and features, in one pass of a kernel",
    "score": "the models",
    "threshold": "threshold and episodes, in one pass of a kernel",
    "decisions": "decisions and evidence as arrays",
    "log": "alerts, rows of the decision log and the archive, counts",
    "checkpoint": "all since the last one to the store, cut log files",
    "rest": "delivery, a look for other models, lag",
}
"""Stages in order, and what each holds."""


class Stages:
    """Seconds by stage: `stages(name)` says that stage `name` ended; it took the time since the last call.

    A collector of Prometheus: `anomaly_stage_seconds_total{stage}`.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._last_s = clock()
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.readings = 0

    def __call__(self, stage: str) -> None:
        """The time since the last call was that of `stage`."""
        now_s = self._clock()
        self.seconds[stage] += now_s - self._last_s
        self._last_s = now_s

    def skip(self) -> None:
        """The time since the last call belongs to no stage."""
        self._last_s = self._clock()

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The metric, one sample a stage."""
        family = CounterMetricFamily("anomaly_stage_seconds", "Wall time by stage", labels=["stage"])
        for stage, seconds in self.seconds.items():
            family.add_metric([stage], seconds)
        yield family

    def table(self) -> str:
        """All stages for people: nanoseconds a reading, and the share of the whole."""
        total = sum(self.seconds.values())
        readings = max(self.readings, 1)
        head = f"{'stage':<11}{'ns a reading':>13}{'share':>7}"
        lines = [
            f"{stage:<11}{1e9 * seconds / readings:>13,.0f}{seconds / max(total, 1e-9):>7.1%}  {STAGES[stage]}"
            for stage, seconds in self.seconds.items()
        ]
        last = f"{'all':<11}{1e9 * total / readings:>13,.0f}{'':>7}  {self.readings:,} readings in {total:.2f} s"
        return "\n".join([head, *lines, last])
