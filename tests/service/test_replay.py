"""The control log repeats a run: restarts, model swaps, and whatever else changed how readings were decided."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import msgspec
import pytest

from anomaly.errors import DataError, StateError
from anomaly.registry.store import Registry
from anomaly.service.compare import Since
from anomaly.service.inspect import show_vehicle
from anomaly.service.replay import Replayed, Run, replay_archive, replay_file, replay_log
from anomaly.service.rows import read_decisions
from anomaly.service.stored import StoreReader, store_paths
from anomaly.stream.ports import Record
from anomaly.telemetry.records import VehicleEvent
from tests.service.child import score
from tests.service.rig import Rig, fill, make_rig, readings


@pytest.fixture(scope="module")
def ran(stock: Path, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """A run with two services, whose model was changed halfway, and an event that came late."""
    folder = tmp_path_factory.mktemp("ran")
    registry = Registry(folder / "models")
    shutil.copytree(stock, registry.folder)
    rig = make_rig(folder, registry.folder)
    batch = readings(each=60)
    fill(rig, batch.rows(0, 360))
    assert score(rig, folder / "run") == 0
    registry.set_alias("bus", "champion", 2, "a better one")
    late = VehicleEvent(id="late", vehicle="v6", ts=int(batch.ts[0]), kind="service")
    rig.send("vehicle-events", [Record(b"", msgspec.json.encode(late))])
    fill(rig, batch.rows(360, 720))
    assert score(rig, folder / "run") == 0
    return rig


def _run(rig: Rig) -> Run:
    return Run(rig.folder / "run", "g", rig.registry)


def test_replay_of_the_log_finds_no_difference(ran: Rig) -> None:
    """All decisions come out the same from the log, over a model swap and restarts, on time and late."""
    log = ran.log()
    assert replay_log(ran.fleet, _run(ran), log, Since()) == Replayed(compared=720, differing=0, first=[])
    log.close()
    models = read_decisions(ran.folder / "run")["model"].to_pylist()
    assert {"bus/1", "bus/2"} == set(models)


def test_replay_of_the_archive_finds_no_difference(ran: Rig) -> None:
    """The archive, cut files and what stores still hold, repeats the run as the log does."""
    assert replay_archive(ran.fleet, _run(ran), Since()).differing == 0
    part = replay_archive(ran.fleet, _run(ran), Since(ts=1_700_000_000 + 50 * 60))
    assert (part.compared, part.differing) == (120, 0)


def test_a_forged_control_log_is_seen(ran: Rig, tmp_path: Path) -> None:
    """Without the rows of the control log the replay differs, so that the comparison can see it."""
    shutil.copytree(ran.folder / "run", tmp_path / "run")
    for path in store_paths(tmp_path / "run"):
        with sqlite3.connect(path) as connection:
            connection.execute("DELETE FROM control WHERE id > 2")
        connection.close()
    forged = replay_archive(ran.fleet, Run(tmp_path / "run", "g", ran.registry), Since())
    assert forged.differing > 100
    assert {"model", "score"} & {row.column for row in forged.first}


def test_a_file_without_offsets_cannot_repeat_a_swap(ran: Rig, tmp_path: Path) -> None:
    """A plain history says so when models changed: it cannot know when."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    batch = readings()
    columns = {name: batch.values[:, place] for place, name in enumerate("abc")}
    pq.write_table(pa.table({"vehicle": list(batch.vehicles), "ts": batch.ts, **columns}), tmp_path / "h.parquet")
    with pytest.raises(DataError, match="replay the log"):
        replay_file(ran.fleet, _run(ran), tmp_path / "h.parquet", Since())


def test_a_folder_without_a_run_is_said(ran: Rig, tmp_path: Path) -> None:
    """Nothing to replay is an error that says where nothing is."""
    with pytest.raises(StateError, match="holds no run"):
        replay_archive(ran.fleet, Run(tmp_path, "g", ran.registry), Since())


def test_the_control_log_says_which_model_scored(ran: Rig) -> None:
    """Every swap and every restart has its place: the first reading that it applies to."""
    rows = [row for path in store_paths(ran.folder / "run") for row in StoreReader(path).control()]
    assert sorted(row.kind for row in rows).count("models") == 4
    decided = read_decisions(ran.folder / "run").to_pylist()
    restarts = [row for row in rows if row.kind == "event"]
    assert {row.vehicle for row in restarts} == {"v0", "v3", "v6"}
    for row in restarts:
        first = next(d for d in decided if (d["vehicle"], d["offset"]) == (row.vehicle, row.offset))
        assert first["ts"] >= (row.ts or 0)
        assert first["warm"] == 0.0


def test_a_vehicle_now_and_then(ran: Rig) -> None:
    """A vehicle's state is shown as it is, and as it was under the model of that time."""
    now = show_vehicle(ran.fleet, _run(ran), "v6")
    assert (now.model, now.last_ts) == ("bus/2", 1_700_000_000 + 59 * 60)
    assert now.alerts or now.episode_start is None
    worn = show_vehicle(ran.fleet, _run(ran), "v6", at=1_700_000_000 + 45 * 60 + 5)
    assert max(worn.signals, key=lambda signal: abs(signal.evidence)).name == "a"
    then = show_vehicle(ran.fleet, _run(ran), "v6", at=1_700_000_000 + 10 * 60 + 5)
    assert (then.model, then.last_ts, then.warm) == ("bus/1", 1_700_000_000 + 10 * 60, 1.0)
    last = show_vehicle(ran.fleet, _run(ran), "v6", at=2**60)
    assert last.signals == now.signals
    with pytest.raises(DataError, match="no reading of vehicle v99"):
        show_vehicle(ran.fleet, _run(ran), "v99")
