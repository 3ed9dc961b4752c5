"""`anomaly produce`: put a file's readings, events or labels onto their topic."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from enum import StrEnum
from pathlib import Path

import typer

from anomaly import fleet as fleets
from anomaly.alerts.text import when
from anomaly.cli.topics import CONFIG, LOG, PROPERTIES, SERVER
from anomaly.errors import UsageError
from anomaly.fleet import TimeUnit
from anomaly.stream.offsets import no_topic
from anomaly.stream.open import open_log

_PROGRESS_EVERY_S = 2.0


class Target(StrEnum):
    """What a file can be put onto."""

    telemetry = "telemetry"
    events = "vehicle-events"
    labels = "labels"


def produce(
    file: Path = typer.Argument(..., help="Readings (Parquet, Arrow, CSV), or events or labels."),
    config: Path = CONFIG,
    bootstrap_server: str | None = SERVER,
    log: Path | None = LOG,
    command_config: Path | None = PROPERTIES,
    topic: Target = typer.Option(Target.telemetry, "--topic", help="Which of the fleet's topics the file is for."),
    speed: float | None = typer.Option(None, min=0.0, help="Real time times this (cycles: so many a second)."),
    pack: int = typer.Option(1, min=1, max=1_000, help="Readings in one message."),
) -> None:
    """Put a file's records onto their topic, in order of time and keyed by vehicle; as fast as it goes, or paced."""
    from anomaly.stream import feed as feeds

    if speed == 0.0:
        raise UsageError("--speed 0 never ends; leave it out to go as fast as it goes")
    if pack > 1 and topic is not Target.telemetry:
        raise UsageError("--pack is for readings; an event or a label is a message of its own")
    fleet = fleets.load(config)
    read = {Target.telemetry: feeds.readings, Target.events: feeds.events, Target.labels: feeds.labels}[topic]
    feed = read(file, fleet)
    pace = feeds.Pace(speed and speed * feeds.TICKS_PER_S[fleet.fleet.time_unit], pack)
    name = fleet.topic(topic.value)
    with closing(open_log(bootstrap_server, log, command_config)) as opened:
        found = opened.topic(name)
        if found is None:
            raise no_topic(name, str(log or bootstrap_server or command_config))
        progress = _Progress(name, len(feed.ts), fleet.fleet.time_unit)
        with closing(opened.sink()) as sink:
            try:
                for done in feeds.send(feed, sink, name, found.partitions, pace):
                    progress.show(done, int(feed.ts[done - 1]) if done else None)
            except KeyboardInterrupt:
                print(f"interrupted: {progress.line()}", file=sys.stderr)
                raise typer.Exit(130) from None
    print(progress.line())


class _Progress:
    """A line on stderr every two seconds: how many, of how many, up to when, how fast."""

    def __init__(self, topic: str, total: int, unit: TimeUnit) -> None:
        self._topic = topic
        self._unit = unit
        self._total = total
        self._done = 0
        self._ts: int | None = None
        self._begin = time.monotonic()
        self._next = self._begin + _PROGRESS_EVERY_S

    def show(self, done: int, ts: int | None) -> None:
        """Note how far it is, and say so if it is time."""
        self._done, self._ts = done, ts
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_EVERY_S
            print(f"{self.line()}, {done / (now - self._begin):,.0f} a second", file=sys.stderr)

    def line(self) -> str:
        """How far it is."""
        until = "" if self._ts is None else f", up to {when(self._ts, self._unit)}"
        return f"{self._done:,} of {self._total:,} records are on {self._topic}{until}"
