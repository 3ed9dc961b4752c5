"""Partitions that are taken over, started afresh, shared with other groups, or lost; nothing of them is lost."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import msgspec
import pytest

from anomaly.errors import PeerError
from anomaly.service import scorer as scoring
from anomaly.service.compare import Since
from anomaly.service.events import Feeds
from anomaly.service.metrics import Metrics
from anomaly.service.replay import Run, replay_archive, replay_log
from anomaly.service.rows import read_decisions
from anomaly.service.scorer import Options, Scorer
from anomaly.service.store import Checkpoint, LostPartition, PartitionStore
from anomaly.service.stored import Identity, Rows, StoreReader, store_path, store_paths
from anomaly.stream.ports import Block, Record
from anomaly.telemetry.encode import encode_readings
from anomaly.telemetry.records import VehicleEvent
from tests.service.rig import Rig, fill, make_rig, readings


@pytest.fixture
def own(tmp_path: Path, stock: Path) -> Rig:
    """A filled log beside a registry that the test may change."""
    shutil.copytree(stock, tmp_path / "models")
    rig = make_rig(tmp_path, tmp_path / "models")
    fill(rig, readings().rows(0, 360))
    return rig


def make(rig: Rig, group: str = "g", **options: object) -> Scorer:
    """A scorer of the whole log."""
    chosen = Options(rig.folder / "run", group, **{"stop_at_end": True} | options)  # type: ignore[arg-type]
    return Scorer(rig.fleet, rig.log(), rig.registry, chosen, Metrics())


def test_groups_in_one_folder_keep_their_files(own: Rig) -> None:
    """A group that starts deletes nothing of what another group cut into files in the same folder."""
    log = msgspec.structs.replace(own.fleet.log, cut_every_mb=0.001)
    own = own._replace(fleet=msgspec.structs.replace(own.fleet, log=log))
    make(own, "first").run()
    make(own, "second", first="latest").run()
    assert [len(read_decisions(own.folder / "run", group)) for group in ("first", "second")] == [360, 0]


def test_a_fresh_start_is_made_once(own: Rig) -> None:
    """A partition that comes back to a process that started afresh goes on where it was."""
    scorer = make(own, fresh_state=True)
    scorer._turn()
    before = {number: part.next_offset for number, part in scorer._partitions.items()}
    scorer.revoked([0, 1])
    assert scorer.assigned([0, 1]) == before
    scorer._leave()


def test_a_run_that_started_afresh_can_be_replayed(own: Rig) -> None:
    """A fresh start notes on the control log anew which models score."""
    make(own).run()
    make(own, fresh_state=True).run()
    log = own.log()
    assert replay_log(own.fleet, Run(own.folder / "run", "g", own.registry), log, Since()).differing == 0
    log.close()


def test_latest_is_where_the_partition_was_first_taken(own: Rig) -> None:
    """What arrives while a group that began at the end is away is scored when it comes back."""
    make(own, first="latest").run()
    fill(own, readings().rows(360, 720))
    make(own, first="latest").run()
    assert len(read_decisions(own.folder / "run")) == 360


def test_a_replay_is_of_the_last_run_alone(own: Rig) -> None:
    """What was logged before a fresh start at the end is no part of the run that is replayed."""
    make(own).run()
    make(own, fresh_state=True, first="latest").run()
    fill(own, readings().rows(360, 720))
    make(own).run()
    replayed = replay_archive(own.fleet, Run(own.folder / "run", "g", own.registry), Since())
    assert (replayed.compared, replayed.differing) == (360, 0)


def test_events_of_vehicles_that_were_never_seen_wait_in_the_store(own: Rig) -> None:
    """They cost no memory, and act at the vehicle's first reading from their time on, after a restart too."""
    early, never = (VehicleEvent(id=f"e-{who}", vehicle=who, ts=10**9, kind="service") for who in ("late", "never"))
    own.send("vehicle-events", [Record(b"", msgspec.json.encode(event)) for event in (early, never)])
    make(own).run()
    scorer = make(own, stop_at_end=False)
    scorer._turn()
    assert not any(len(part.engine._chain) for part in scorer._partitions.values())
    first = dataclasses.replace(readings().rows(0, 1), vehicles=["late"])
    own.send("telemetry", [Record(b"late", encode_readings(first, own.fleet)[0])])
    scorer._turn()
    scorer._leave()
    stores = [StoreReader(path) for path in store_paths(own.folder / "run")]
    applied = [json.loads(row.payload)["id"] for store in stores for row in store.control() if row.kind == "event"]
    assert applied.count("e-late") == 1
    assert sorted(restart.id for store in stores for restart in store.waiting(["late", "never"])) == [
        "e-late",
        "e-never",
        "e-never",
    ]


class Once:
    """A reader of a topic that cannot be read the second time it is asked."""

    def __init__(self, reader: object) -> None:
        self._reader = reader
        self.asked = 0

    def read_to_end(self) -> list[Block]:
        """What is there, but the second time."""
        self.asked += 1
        if self.asked == 2:
            raise PeerError("the broker is away")
        return self._reader.read_to_end()  # type: ignore[attr-defined,no-any-return]


def test_events_survive_a_broker_that_goes_away_between_two_topics(own: Rig) -> None:
    """What was read of one topic before another could not be read is handed on by the next read."""
    log = own.log()
    feeds = Feeds(log, own.fleet, {})
    feeds.read()
    feeds._readers["bus.labels"] = once = Once(feeds._readers["bus.labels"])  # type: ignore[assignment]
    once.asked = 1
    event = VehicleEvent(id="e9", vehicle="v1", ts=1, kind="service")
    own.send("vehicle-events", [Record(b"", msgspec.json.encode(event))])
    with pytest.raises(PeerError):
        feeds.read()
    assert [event.id for told in feeds.read() for event in told.events] == ["e9"]
    log.close()


def test_a_reader_sees_rows_once_while_they_are_cut(tmp_path: Path) -> None:
    """Rows that become a file while somebody reads are seen as rows or as a file, never neither nor both."""
    path = store_path(tmp_path, "g", "bus.telemetry", 0)
    store = PartitionStore(path, Identity("fleet", "frame"))
    rows = Rows("decisions", 0, 9, b"ipc")
    store.checkpoint(Checkpoint(10, (), {}, (), {}, (), (rows,)))
    reader = StoreReader(path)
    with reader.still():
        before = reader.files()
        store.record_cut({"decisions": ["file"]})
        assert (before, reader.rows("decisions")) == ({}, [rows])
    assert (reader.files(), reader.rows("decisions")) == ({"decisions": ["file"]}, [])


def _taken_over(own: Rig, number: int) -> None:
    path = store_path(own.folder / "run", "g", "bus.telemetry", number)
    PartitionStore(path, StoreReader(path).identity).close()


def test_a_partition_lost_while_letters_are_sent_stops_no_other(own: Rig) -> None:
    """That another process took one partition over is noticed when letters are marked; the others go on."""
    scorer = make(own)
    scorer._turn()
    for part in list(scorer._partitions.values()):
        scorer._checkpoint(part, 0.0)
    own.send("telemetry", [Record(None, b"{broken", number) for number in (0, 1)])
    scorer._delivery._again_s = float("inf")
    scorer._turn()
    for part in list(scorer._partitions.values()):
        scorer._checkpoint(part, 0.0)
    _taken_over(own, 0)
    scorer._delivery._again_s = 0.0
    scorer._deliver(1.0)
    assert list(scorer._partitions) == [1]
    assert StoreReader(store_path(own.folder / "run", "g", "bus.telemetry", 1)).pending() == []
    scorer._leave()


def test_a_partition_that_stays_lost_ends_the_process(own: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no group gives the lost partition to anybody, the process does not go on without it for ever."""
    monkeypatch.setattr(scoring, "LOST_S", 0.0)
    scorer = make(own, stop_at_end=False)
    scorer._turn()
    _taken_over(own, 0)
    with pytest.raises(LostPartition, match="another process took this partition over"):
        scorer.run()


def test_an_experiment_that_cannot_be_read_stops_nothing(own: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """A state in the experiments folder that cannot be read is said, and the champion scores."""
    scorer = make(own)
    scorer._turn()
    folder = own.folder / "run" / "experiments"
    folder.mkdir(parents=True)
    (folder / "x.state.json").write_bytes(b"{'\xff'")
    scorer.run()
    assert len(read_decisions(own.folder / "run")) == 360
    said = capsys.readouterr()
    assert "x.state.json cannot be used" in said.out + said.err


def test_rows_become_files_while_nothing_arrives(own: Rig) -> None:
    """Rows are cut when their time has come, also in a process that is idle."""
    fleet = msgspec.structs.replace(own.fleet, log=msgspec.structs.replace(own.fleet.log, cut_every_mb=64.0))
    scorer = make(own._replace(fleet=fleet))
    while scorer._turn():
        pass
    for part in scorer._partitions.values():
        part.checkpoint(0.0)
        part._cut_s = -1e9
    scorer._turn()
    assert all(StoreReader(path).files() for path in store_paths(own.folder / "run"))
    scorer._leave()


def test_figures_of_a_partition_go_with_it(own: Rig) -> None:
    """A partition that was given up has no lag and no state in this process's metrics."""
    scorer = make(own)
    scorer._turn()
    metrics = scorer._metrics.registry
    assert metrics.get_sample_value("anomaly_lag_messages", {"partition": "0"}) is not None
    scorer._source._cursors.pop(0)  # type: ignore[attr-defined]
    scorer.revoked([0])
    scorer._report(float("inf"))
    for name in ("anomaly_lag_messages", "anomaly_state_bytes"):
        assert metrics.get_sample_value(name, {"partition": "0"}) is None
    scorer._leave()
