"""The whole loop on a sample fleet: train, score, hear labels, retrain, gate, roll out, decide; on the embedded log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from anomaly.engine.events import Action
from anomaly.engine.frame import Frame
from anomaly.engine.outcome import Kind
from anomaly.experiments.report import lines, report
from anomaly.feedback.archive import reading_batch
from anomaly.feedback.labels import as_of
from anomaly.registry.manifest import Manifest
from anomaly.registry.store import Registry
from anomaly.service.look import Known, conclude
from anomaly.service.metrics import Metrics
from anomaly.service.rows import read_archive, read_decisions
from anomaly.service.scorer import Options, Scorer
from anomaly.stream import feed as feeds
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.feed import Feed
from anomaly.stream.ports import Record
from anomaly.stream.topics import create_topics
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.files import inspect_history, read_events, read_labels
from anomaly.telemetry.records import Alert
from training.auto import train
from training.figures import Decided, Figures, Shift, headline
from training.fit import Trained
from training.gate import Report, gate
from training.history import History, known_at, split_vehicles
from training.rollout import start_experiment
from training.sample import Sample
from training.train import Recipe, champion_frame, publish

TRAIN_SHARE, RETRAIN_SHARE = 1 / 3, 2 / 3
STEP_DAYS = 4


class Screen(Protocol):
    """Where the demo shows what it does."""

    def stage(self, text: str) -> None:
        """A new part of the loop begins."""

    def line(self, text: str) -> None:
        """Something to know of this part."""

    def progress(self, done: int, total: int) -> None:
        """Readings scored so far."""

    def alert(self, alert: Alert) -> None:
        """An alert came, changed or closed."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the run: `figures` from its decision log, the gate's report, the experiment's verdict,
    and a `vehicle` that alarmed last."""

    figures: Figures
    gate: Report
    verdict: str
    reason: str
    champion: str
    alerts: int
    readings: int
    vehicle: str


class World:
    """The sample fleet with its time: a log that is filled day by day, a scorer that reads it, a registry."""

    def __init__(self, sample: Sample, folder: Path, screen: Screen) -> None:
        self.fleet, self.folder, self.screen = sample.fleet, folder, screen
        self.registry = Registry(folder / "models")
        self.batch = inspect_history(sample.readings, sample.fleet).batch
        self.events = read_events(sample.events, sample.fleet)
        self.labels = read_labels(sample.labels, sample.fleet)
        self._feeds = {
            "vehicle-events": feeds.events(sample.events, sample.fleet),
            "labels": feeds.labels(sample.labels, sample.fleet),
            "telemetry": feeds.readings(sample.readings, sample.fleet),
        }
        begin, end = int(self.batch.ts[0]), int(self.batch.ts[-1]) + 1
        self.train_until = begin + int(TRAIN_SHARE * (end - begin))
        self.retrain_at = begin + int(RETRAIN_SHARE * (end - begin))
        self.end = end
        self.now = self.train_until
        self.scored = 0
        self.total = len(self.batch) - int(np.searchsorted(self.batch.ts, self.train_until))
        self.opened: set[str] = set()
        self.alarmed = self.batch.vehicles[0]
        self.log = EmbeddedLog(folder / "fleet.db")
        self.log.create_topics({self.fleet.topic("telemetry"): self.fleet.stream.partitions}, retention_ms=-1)
        create_topics(self.log, self.fleet)
        self._alerts = self.log.reader(self.fleet.topic("alerts"), {})

    def first_third(self) -> Batch:
        """The readings that the first model is trained on, before anything is scored."""
        return self.batch.rows(0, int(np.searchsorted(self.batch.ts, self.train_until)))

    def archived(self) -> Batch:
        """The readings that were scored, from the run's archive."""
        return reading_batch(read_archive(self.folder / "run", self.fleet), self.fleet)

    def known(self, readings: Batch) -> History:
        """`readings` with all that was reported by now."""
        return known_at(self.fleet, readings, self.events, self.labels, self.now - 1)

    def run(self, until: int) -> None:
        """Let time pass: a few days go onto the log, the scorer reads them and stops, then the next days."""
        step = STEP_DAYS * self.fleet.ticks_per_day
        while self.now < until:
            following = min(self.now + step, until)
            self._produce(self.now, following)
            self.now = following
            self._score()

    def _produce(self, since: int, until: int) -> None:
        sink = self.log.sink()
        for name, feed in self._feeds.items():
            begin = 0 if since == self.train_until and name != "telemetry" else int(np.searchsorted(feed.ts, since))
            records = _records(feed, begin, int(np.searchsorted(feed.ts, until)))
            sink.send(self.fleet.topic(name), records)
            self.scored += len(records) if name == "telemetry" else 0
        sink.close()

    def _score(self) -> None:
        options = Options(self.folder / "run", self.fleet.name, stop_at_end=True)
        Scorer(self.fleet, self.log, self.registry, options, Metrics()).run()
        self.screen.progress(self.scored, self.total)
        for block in self._alerts.read_to_end():
            for value in block.values:
                alert = msgspec.json.decode(value, type=Alert)
                if alert.kind != "sensor":
                    self.opened.add(alert.id)
                    self.alarmed = alert.subject.get("vehicle", self.alarmed)
                    self.screen.alert(alert)

    def figures(self) -> Figures:
        """The headline figures of this run, from its decision log and the labels that were reported by now."""
        return headline(_decided(read_decisions(self.folder / "run"), self.known(self.archived())), self.fleet)

    def close(self) -> None:
        """Let go of the log."""
        self._alerts.close()
        self.log.close()


def run_demo(
    sample: Sample, folder: Path, screen: Screen, tamper: Callable[[Trained], Trained] = lambda trained: trained
) -> Summary:
    """Run the loop in the empty `folder`; `tamper` may spoil the challenger, to see it refused."""
    world = World(sample, folder, screen)
    try:
        _first_model(world)
        screen.stage("scoring the stream")
        world.run(world.retrain_at)
        challenger, report = _challenge(world, tamper)
        if report.passed:
            verdict, reason = _roll_out(world, challenger)
        else:
            verdict, reason = "refused", "; ".join(report.reasons)
            screen.stage("going on with the champion")
            world.run(world.end)
        return Summary(
            figures=world.figures(),
            gate=report,
            verdict=verdict,
            reason=reason,
            champion=world.registry.resolve(f"{world.fleet.name}@champion").reference,
            alerts=len(world.opened),
            readings=world.scored,
            vehicle=world.alarmed,
        )
    finally:
        world.close()


def _first_model(world: World) -> None:
    world.screen.stage("training on the first third")
    history = world.known(world.first_third())
    split = split_vehicles(history.names, 0, None)
    trained = train(world.fleet, history, split, 0)
    manifest = publish(world.registry, Recipe(world.fleet, history, split, 0), trained)
    world.screen.line(
        f"{manifest.reference}: {len(history.batch):,} readings of {len(history.names)} vehicles, "
        f"{len(history.faults)} labelled faults, k = {trained.k:.2f} nats, exported to ONNX"
    )


def _challenge(world: World, tamper: Callable[[Trained], Trained]) -> tuple[Manifest, Report]:
    """Retrain on history and archive with what is known now, in the champion's frame; the gate looks at the archive."""
    world.screen.stage("retraining with the labels that came in")
    fleet, registry = world.fleet, world.registry
    history = world.known(Batch.concatenated([world.first_third(), world.archived()]))
    split = split_vehicles(history.names, 1, None)
    trained = tamper(train(fleet, history, split, 1, champion_frame(registry, fleet)))
    challenger = publish(registry, Recipe(fleet, history, split, 1), trained)
    registry.set_alias(fleet.name, "challenger", challenger.number, "retrained with new labels")
    old, new = (registry.load(registry.resolve(f"{fleet.name}@{alias}")) for alias in ("champion", "challenger"))
    newest = world.known(world.archived()).of(split.validation)
    report = gate(fleet, Frame.from_json(old.frame), old.engine_model(), new.engine_model(), newest)
    world.screen.line(
        f"{challenger.reference}: {len(history.faults)} labelled faults, k = {trained.k:.2f} nats; the gate "
        + ("lets it through" if report.passed else f"refuses it: {'; '.join(report.reasons)}")
    )
    return challenger, report


def _roll_out(world: World, challenger: Manifest) -> tuple[str, str]:
    """Half of the vehicles score with the challenger for the last third; then the arms are compared."""
    run = world.folder / "run"
    world.screen.stage(f"rolling {challenger.reference} out to half of the vehicles, by an experiment file")
    experiment = start_experiment(run, world.registry, world.fleet, world.now)
    world.run(world.end)
    world.screen.stage("comparing the arms by vehicle")
    known = Known(world.now - 1, as_of(world.labels, world.now - 1), world.known(world.archived()).restarts)
    state = conclude(run, world.fleet, experiment, world.registry, known)
    evidence = report(run / "experiments", experiment).evidence
    for line in lines(evidence) if evidence else ():
        world.screen.line(line)
    verdict = state.status.replace("_", " ").replace("running", "held")
    world.screen.line(f"{challenger.reference} is {verdict}: {state.reason}")
    return verdict, state.reason


def _records(feed: Feed, start: int, stop: int) -> list[Record]:
    vehicles: Sequence[str] = feed.vehicles[start:stop]
    return [
        Record(vehicle.encode(), value) for vehicle, value in zip(vehicles, feed.messages(start, stop), strict=True)
    ]


def _decided(decisions: object, history: History) -> Decided:
    """The log's decisions beside what is known of their readings; a decision is found by vehicle and time."""
    import pandas as pd

    logged = decisions.select(["vehicle", "ts", "alarm", "warm", "kinds", "episode"]).to_pandas()  # type: ignore[attr-defined]
    known = pd.DataFrame({"vehicle": history.batch.vehicles, "ts": history.batch.ts, "code": history.codes})
    known["health"] = history.health
    joined = logged.merge(known.drop_duplicates(["vehicle", "ts"]), on=["vehicle", "ts"], how="inner")
    began = joined.groupby("episode", observed=True)["ts"].min()
    lasting = joined[(joined["kinds"].to_numpy() & (1 << Kind.LASTING_SHIFT)) > 0]
    told = Action.ACCEPT, Action.ANSWER, Action.CONFIRM, Action.DISMISS
    answers = [event for event in history.events if event.action in told]
    shifts = [
        Shift(
            code=row.code,
            start=int(began[row.episode]),
            opened=row.ts,
            answered=min((e.ts for e in answers if e.vehicle == row.vehicle and e.ts > row.ts), default=None),
        )
        for row in lasting.itertuples()
    ]
    return Decided(
        codes=joined["code"].to_numpy(np.int64),
        ts=joined["ts"].to_numpy(np.int64),
        alarm=joined["alarm"].to_numpy(np.bool_),
        warm=joined["warm"].to_numpy(np.float32) >= 1,
        health=joined["health"].to_numpy(np.int8),
        faults=history.faults,
        shifts=shifts,
    )
