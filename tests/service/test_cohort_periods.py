"""Cohorts over partitions: whoever counts where, the decisions are those of one engine alone."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from anomaly.engine.cohorts import Counts, Partial
from anomaly.errors import PeerError
from anomaly.service.cohort_periods import KEPT, Periods, Whose, letters
from anomaly.service.compare import Since
from anomaly.service.metrics import Metrics
from anomaly.service.replay import Run, replay_archive, replay_log
from anomaly.service.rows import read_decisions
from anomaly.service.scorer import Options, Scorer
from anomaly.service.stored import StoreReader, store_paths
from anomaly.stream.partitions import partition_of
from anomaly.stream.ports import Record
from anomaly.telemetry.encode import encode_message
from tests.service.child import score
from tests.service.cohort_rig import VEHICLES, alone, cohort_rig, ordered, put, told, warm_days
from tests.service.rig import Rig

FORGE = "UPDATE control SET payload = CAST(replace(CAST(payload AS TEXT), '\"t0\"', '\"t9\"') AS BLOB)"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Three partitions, nothing sent yet."""
    return cohort_rig(tmp_path)


def run(rig: Rig, metrics: Metrics | None = None) -> None:
    """Score to the end."""
    log = rig.log()
    Scorer(rig.fleet, log, rig.registry, Options(rig.folder / "run", "g", stop_at_end=True), metrics or Metrics()).run()
    log.close()


def test_several_partitions_decide_as_one_engine_does(rig: Rig) -> None:
    """Every decision over three partitions is, in all its bits, that of one engine; the season is taken off."""
    batch = warm_days()
    put(rig, batch)
    metrics = Metrics()
    run(rig, metrics)
    assert ordered(read_decisions(rig.folder / "run")) == alone(rig, batch)
    assert metrics.registry.get_sample_value("anomaly_incomplete_cohort_periods_total") == 0
    assert metrics.registry.get_sample_value("anomaly_late_cohort_readings_total") == 0


def test_the_comparison_sees_a_partition_that_counts_for_itself(rig: Rig) -> None:
    """The control: one engine for each partition's vehicles decides differently, so that the merge matters."""
    batch = warm_days()
    some = [row for row, name in enumerate(batch.vehicles) if int(name[1:]) % 4 < 2]
    expected = {(row["vehicle"], row["ts"]): row for row in alone(rig, batch)}
    assert any(expected[row["vehicle"], row["ts"]] != row for row in alone(rig, batch.take(some)))


def test_a_kill_and_a_restart_change_nothing(rig: Rig) -> None:
    """Killed between checkpoint and delivery, then started again: the same decisions, and each partial is told."""
    batch = warm_days()
    put(rig, batch)
    for failpoint in ("outbox.before_send:9", "checkpoint.before_commit:20", "outbox.after_send:7"):
        assert score(rig, rig.folder / "run", failpoint) == -9
    assert score(rig, rig.folder / "run") == 0
    assert ordered(read_decisions(rig.folder / "run")) == alone(rig, batch)
    periods = {number: sorted({p for n, p in told(rig) if n == number}) for number in range(3)}
    assert len(set(map(tuple, periods.values()))) == 1


def test_packed_messages_are_cut_where_they_must_wait(rig: Rig) -> None:
    """Messages of many readings that span several periods are decided part by part."""
    batch = warm_days(steps=60)
    rows = {number: [] for number in range(3)}
    for row, name in enumerate(batch.vehicles):
        rows[int(name[1:]) % 3].append(row)
    for number, own in rows.items():
        packs = [own[first : first + 400] for first in range(0, len(own), 400)]
        messages = [Record(None, encode_message(batch.take(pack), rig.fleet), number) for pack in packs]
        rig.send("telemetry", messages)
    run(rig)
    assert ordered(read_decisions(rig.folder / "run")) == alone(rig, batch)


def test_a_replay_repeats_what_was_merged(rig: Rig) -> None:
    """Log and archive, partition by partition, lead to the same bytes from the control log alone."""
    put(rig, warm_days())
    run(rig)
    ran, log = Run(rig.folder / "run", "g", rig.registry), rig.log()
    assert replay_log(rig.fleet, ran, log, Since()).differing == 0
    log.close()
    assert replay_archive(rig.fleet, ran, Since()).differing == 0
    for path in store_paths(rig.folder / "run"):
        with sqlite3.connect(path) as connection:
            connection.execute(FORGE)
        connection.close()
    assert replay_archive(rig.fleet, ran, Since()).differing > 0


def test_a_partition_without_vehicles_is_not_waited_for(tmp_path: Path) -> None:
    """Of 20 partitions half have no vehicle; they say so, and nothing waits for its time to run out."""
    rig, batch = cohort_rig(tmp_path, partitions=20), warm_days(steps=40)
    some = batch.take([row for row, name in enumerate(batch.vehicles) if int(name[1:]) < 10])
    put(rig, some)
    metrics = Metrics()
    run(rig, metrics)
    assert ordered(read_decisions(rig.folder / "run")) == alone(rig, some)
    assert metrics.registry.get_sample_value("anomaly_incomplete_cohort_periods_total") == 0


def test_a_wait_ends_and_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A partition whose vehicles are silent is waited for `max_wait`; the others then go on, say so and record it."""
    rig, batch = cohort_rig(tmp_path, max_wait="1s"), warm_days(steps=42)
    quiet = np.array([partition_of(name.encode(), 3) == 2 for name in batch.vehicles])
    put(rig, batch.take(np.flatnonzero(~quiet | (np.arange(len(batch)) < 20 * VEHICLES))))
    metrics = Metrics()
    run(rig, metrics)
    counted = metrics.registry.get_sample_value("anomaly_incomplete_cohort_periods_total")
    rows = [row for path in store_paths(rig.folder / "run") for row in StoreReader(path).control()]
    missing = [msgspec.json.decode(row.payload)["missing"] for row in rows if row.kind == "cohorts"]
    assert sum(map(bool, missing)) == counted > 0
    assert [2] in missing
    said = "".join(capsys.readouterr())
    assert "waiting for what other partitions count" in said
    assert "without what other partitions counted" in said
    log = rig.log()
    assert replay_log(rig.fleet, Run(rig.folder / "run", "g", rig.registry), log, Since()).differing == 0
    log.close()


def test_partials_of_others_are_passed_over(rig: Rig) -> None:
    """Of another group, another frame, a newer version, or no JSON at all: nothing of it is merged."""
    ours, counts = Whose("g", "f", 1), {"t0": Counts(3, zlib.compress(bytes(4)))}
    for whose in (ours._replace(group="h"), ours._replace(frame="e"), ours):
        made = letters(rig.fleet, whose, 0, Partial(5, counts))
        rig.send("cohorts", [Record(letter.key, letter.value) for letter in made])
    newer = made[0].value.replace(b'"v":1', b'"v":2')
    rig.send("cohorts", [Record(b"x", newer), Record(b"x", b"?")])
    log = rig.log()
    periods = Periods(log, rig.fleet, ours)
    periods.read()
    assert [periods.merged(period)[1] for period in (4, 5, 6)] == [[], [], [0]]
    assert periods.merged(5)[0].counts["t0"].vehicles == 3
    periods.close()
    log.close()


def test_a_partial_of_many_cohorts_is_several_messages(rig: Rig) -> None:
    """It is merged once all of them are there, and a compacted topic keeps those of the last periods alone."""
    ours, counts = Whose("g", "f", 1), {f"t{n:03}": Counts(1, zlib.compress(bytes(4))) for n in range(150)}
    made = letters(rig.fleet, ours, 0, Partial(5, counts))
    rig.send("cohorts", [Record(letter.key, letter.value) for letter in made[:-1]])
    log = rig.log()
    periods = Periods(log, rig.fleet, ours)
    periods.read()
    assert (len(made), periods.merged(5)[1]) == (3, [0])
    rig.send("cohorts", [Record(made[-1].key, made[-1].value)])
    periods.read()
    assert (periods.merged(5)[1], len(periods.merged(5)[0].counts)) == ([], 150)
    keys = {letter.key for period in range(100) for letter in letters(rig.fleet, ours, 0, Partial(period, {}))}
    assert len(keys) == KEPT
    periods.close()
    log.close()


def test_a_missing_topic_is_said(tmp_path: Path) -> None:
    """Cohorts over several partitions need the topic `cohorts`; without it the scorer says how to make it."""
    with pytest.raises(PeerError, match="topics create"):
        run(cohort_rig(tmp_path, told=False))
