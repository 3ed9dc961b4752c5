"""The loop itself, in this process: hot swap, events, back-pressure, and what is counted."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from anomaly.errors import DataError, PeerError, StateError
from anomaly.service.compare import Since
from anomaly.service.letters import reason_class
from anomaly.service.logs import Summary
from anomaly.service.metrics import Metrics
from anomaly.service.replay import Run, replay_log
from anomaly.service.rows import read_decisions
from anomaly.service.scorer import Options, Scorer
from anomaly.service.store import Checkpoint, PartitionStore
from anomaly.service.stored import StoreReader, store_path, store_paths
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.feed import Feed, Pace, send
from anomaly.stream.ports import Record
from anomaly.telemetry.encode import encode_message, encode_readings
from anomaly.telemetry.records import DeadLetter, Label
from tests.service.rig import FLEET, Rig, fill, make_rig, readings, seen


@pytest.fixture
def own(tmp_path: Path, stock: Path) -> Rig:
    """A filled log beside a registry that the test may change."""
    shutil.copytree(stock, tmp_path / "models")
    rig = make_rig(tmp_path, tmp_path / "models")
    fill(rig, readings().rows(0, 360))
    return rig


def run(rig: Rig, log: EmbeddedLog | None = None, metrics: Metrics | None = None) -> None:
    """Score to the end."""
    opened = log or rig.log()
    options = Options(rig.folder / "run", "g", stop_at_end=True)
    Scorer(rig.fleet, opened, rig.registry, options, metrics or Metrics()).run()
    opened.close()


class Meanwhile(EmbeddedLog):
    """A log whose sources do something of the test's own before their `nth` poll."""

    def __init__(self, path: Path, nth: int, act: Callable[[], None]) -> None:
        super().__init__(path)
        self._nth = nth
        self._act = act

    def source(self, *arguments: object) -> object:  # type: ignore[override]
        """A source that acts."""
        made = super().source(*arguments)  # type: ignore[arg-type]
        poll = made.poll

        def acting(limit: int, timeout_s: float) -> object:
            self._nth -= 1
            if self._nth == 0:
                self._act()
            return poll(limit, timeout_s)

        made.poll = acting  # type: ignore[method-assign,assignment]
        return made


def test_a_promotion_acts_between_batches(own: Rig) -> None:
    """A new champion scores from some batch on, every decision by one model, and the swap is on the control log."""
    run(own, Meanwhile(own.log_path, 1, lambda: own.registry.set_alias("bus", "champion", 2, "better")))
    rows = read_decisions(own.folder / "run").sort_by([("partition", "ascending"), ("offset", "ascending")]).to_pylist()
    assert len(rows) == 360
    assert {row["model"] for row in rows} == {"bus/1", "bus/2"}
    for path in store_paths(own.folder / "run"):
        swaps = [row.offset for row in StoreReader(path).control() if row.kind == "models"]
        mine = [row for row in rows if str(row["partition"]) == path.stem[-1]]
        assert all((row["model"] == "bus/2") == (row["offset"] >= swaps[-1]) for row in mine if len(swaps) > 1)


def test_a_model_of_another_frame_is_refused_and_scoring_goes_on(own: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """The champion in force keeps scoring, and a line says why the new one does not."""
    run(own, Meanwhile(own.log_path, 2, lambda: own.registry.set_alias("bus", "champion", 3, "other frame")))
    assert {row["model"] for row in read_decisions(own.folder / "run").to_pylist()} == {"bus/1"}
    said = capsys.readouterr()
    assert "rollout refused" in said.out + said.err
    with pytest.raises(StateError, match="--fresh-state"):
        run(own)


def test_a_new_normal_is_learned_from_the_report_on(own: Rig) -> None:
    """A label that acts does so at the first reading at or after its report."""
    batch = readings()
    when = int(batch.ts[20 * 12])
    label = Label(vehicle="v5", start=0, end=1, verdict="normal_since", source="shop", reported_at=when)
    own.send("labels", [Record(b"v5", msgspec.json.encode(label))])
    run(own)
    warm = {row["ts"]: row["warm"] for row in read_decisions(own.folder / "run").to_pylist() if row["vehicle"] == "v5"}
    assert (warm[when - 60], warm[when]) == (1.0, 0.0)


def test_events_are_read_on_from_where_they_were(own: Rig) -> None:
    """The positions on events and labels are part of the checkpoint: an event acts once."""
    run(own)
    fill(own, readings().rows(360, 720))
    run(own)
    kinds = [row for path in store_paths(own.folder / "run") for row in StoreReader(path).control()]
    restarts = [row.digest for row in kinds if row.kind == "event"]
    assert len(restarts) == len(set(restarts)) == 4
    store = StoreReader(store_path(own.folder / "run", "g", "bus.telemetry", 0))
    assert store.positions() == {"bus.vehicle-events": {0: 6}, "bus.labels": {0: 0}}


@pytest.mark.parametrize("format", ["msgpack", "arrow"])
def test_a_fleet_may_speak_another_format(tmp_path: Path, stock: Path, format: str) -> None:
    """With `[stream] format`, readings are written and scored in that format, packed ones too, and replayed."""
    rig = make_rig(tmp_path, stock, FLEET.replace("batch = 64", f'batch = 64\nformat = "{format}"'))
    batch = readings()
    feed = Feed(
        batch.ts,
        batch.vehicles,
        lambda start, stop: encode_readings(batch.rows(start, stop), rig.fleet),
        lambda rows: encode_message(batch.take(rows), rig.fleet),
    )
    log = rig.log()
    for pack in (1, 20):
        assert list(send(feed, log.sink(), "bus.telemetry", 2, Pace(pack=pack)))[-1] == 720
    run(rig)
    after = seen(rig, rig.folder / "run")
    assert (len(after.decisions), len(after.archived), len(after.dead_letters)) == (720, 1440, 0)
    assert replay_log(rig.fleet, Run(rig.folder / "run", "g", rig.registry), log, Since()).differing == 0
    log.close()


class Failing(EmbeddedLog):
    """A log that takes nothing the first `failures` times."""

    failures = 3

    def sink(self) -> object:  # type: ignore[override]
        """A sink that fails at first."""
        made = super().sink()
        send = made.send

        def failing(topic: str, records: Sequence[Record]) -> None:
            if self.failures:
                self.failures -= 1
                raise PeerError("the broker is away")
            send(topic, records)

        made.send = failing  # type: ignore[method-assign]
        return made


def test_a_sink_that_is_away_loses_nothing(own: Rig) -> None:
    """While letters cannot be sent nothing more is read; when they can, everything comes, once."""
    metrics = Metrics()
    run(own, Failing(own.log_path), metrics)
    assert metrics.registry.get_sample_value("anomaly_delivery_retries_total") == 3
    after = seen(own, own.folder / "run")
    assert (len(after.decisions), len(after.dead_letters), after.repeats) == (360, 8, 0)
    assert [StoreReader(path).pending() for path in store_paths(own.folder / "run")] == [[], []]


def test_what_is_counted(own: Rig) -> None:
    """Metrics say what came of the readings, and no vehicle is among their labels."""
    again = readings().rows(0, 12)
    messages = encode_readings(again, own.fleet)
    own.send("telemetry", [Record(v.encode(), m) for v, m in zip(again.vehicles, messages, strict=True)])
    metrics = Metrics()
    run(own, metrics=metrics)
    value = metrics.registry.get_sample_value
    assert value("anomaly_readings_total") == 372
    assert value("anomaly_decisions_total") == 360
    assert sum(value("anomaly_refused_readings_total", {"status": s}) or 0 for s in ("duplicate", "late")) == 12
    assert value("anomaly_dead_letters_total", {"reason": "decode"}) == 8
    assert (value("anomaly_state_bytes", {"partition": "0"}) or 0) > 0
    labels = {key for family in metrics.registry.collect() for sample in family.samples for key in sample.labels}
    assert labels <= {"reason", "status", "state", "partition", "name", "le", "stage"}


def test_a_dead_letter_fits_its_topic(own: Rig) -> None:
    """Of a message that is larger than a dead letter may be, the beginning is kept, and the reason says so."""
    own.send("telemetry", [Record(b"v1", b"{" + b"x" * (3 << 20))])
    run(own)
    letters = [msgspec.json.decode(value, type=DeadLetter) for value in seen(own, own.folder / "run").dead_letters]
    (large,) = (letter for letter in letters if len(letter.payload) > 1_000)
    assert len(large.payload) == 1 << 20
    assert large.reason.endswith(" (the first 1048576 of 3145729 bytes)")


def test_reasons_are_few() -> None:
    """Free text of a dead letter never becomes a metric's label."""
    assert {reason_class(text) for text in ("partition: v1", "version 9 is newer", "ts: missing")} == {
        "partition", "version", "decode",
    }  # fmt: skip


def test_summary_has_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    """The line of a minute tells rate, lag, alarms and dead letters, and starts counting anew."""
    summary = Summary(0.0)
    summary.add(600, 2, 1)
    assert (summary.due(59.0), summary.due(60.0)) == (False, True)
    summary.write(60.0, lag=7)
    said = capsys.readouterr()
    for word in ("readings_per_s", "10.0", "lag", "7", "alarms", "dead_letters"):
        assert word in said.out + said.err
    assert summary.readings == summary.alarms == summary.dead_letters == 0


class Full(PartitionStore):
    """A store that finds no room at its second checkpoint, and room again right after it."""

    written = 0

    def checkpoint(self, checkpoint: Checkpoint) -> tuple[int, int]:
        """The second one of the process fails."""
        Full.written += 1
        if Full.written == 2:
            raise DataError("no room")
        return super().checkpoint(checkpoint)


def test_nothing_is_written_after_a_failure(own: Rig) -> None:
    """What was half done when something failed is not written down on the way out; the next run does it again."""
    options = Options(own.folder / "run", "g", stop_at_end=True)
    with pytest.raises(DataError, match="no room"):
        Scorer(own.fleet, own.log(), own.registry, options, Metrics(), Full).run()
    run(own)
    after = seen(own, own.folder / "run")
    assert (len(after.decisions), len(after.archived)) == (360, 360)


def test_a_partition_passes_over_what_it_was_told(own: Rig) -> None:
    """Where one partition has to read events again, another does not take them a second time."""
    run(own)
    with sqlite3.connect(store_path(own.folder / "run", "g", "bus.telemetry", 1)) as connection:
        connection.execute("UPDATE owner SET positions = '{}'")
    connection.close()
    fill(own, readings().rows(360, 720))
    run(own)
    assert seen(own, own.folder / "run").repeats == 0


def test_the_loop_fills_the_summary(own: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """Readings, alarms and dead letters of the telemetry are all in the line of a minute."""
    log = own.log()
    scorer = Scorer(own.fleet, log, own.registry, Options(own.folder / "run", "g", stop_at_end=True), Metrics())
    scorer.run()
    log.close()
    alarms = sum(row["alarm"] for row in read_decisions(own.folder / "run").to_pylist())
    said = "".join(capsys.readouterr())
    for counted in ("readings=360", f"alarms={alarms}", "dead_letters=7"):
        assert counted in re.sub(r"\x1b\[[0-9;]*m", "", said)
