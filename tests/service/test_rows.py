"""What is logged: gathered, kept in the store, cut into files."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly.service import rows as logging
from anomaly.service.store import Checkpoint, PartitionStore
from anomaly.service.stored import Identity, store_path
from tests.engine.world import FLEET, arm, engine, fleet, stream


@pytest.mark.parametrize(("portion", "files"), [(1, 4), (1 << 30, 1)])
def test_a_cut_in_portions_holds_what_one_cut_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion: int, files: int
) -> None:
    """However many files a cut becomes, the log says the same as before it, and no row is left in the store."""
    monkeypatch.setattr(logging, "PORTION", portion)
    known, running, arms = fleet(FLEET + '[log]\ndecisions = "all"\n'), engine(), [arm()]
    store = PartitionStore(store_path(tmp_path, "g", "t", 0), Identity("fleet", "frame"))
    pending = logging.LogRows(known, 0)
    for start in range(0, 400, 100):
        batch = stream(1, 400).rows(start, start + 100)
        pending.add(running.decide(batch), batch, arms)
        store.checkpoint(Checkpoint(start + 100, (b"delta",), {}, (), {}, (), tuple(pending.take())))
    before = [table(tmp_path) for table in (logging.read_decisions, lambda folder: logging.read_archive(folder, known))]
    logging.cut(store, tmp_path, known, "t-0")
    after = [table(tmp_path) for table in (logging.read_decisions, lambda folder: logging.read_archive(folder, known))]
    places = {name.rsplit("@")[-1] for name in store.files()["archive"]}
    assert (len(places), store.rows("archive"), store.rows("decisions")) == (files, [], [])
    for one, other in zip(before, after, strict=True):
        assert one.num_rows > 300
        assert sorted(map(str, one.to_pylist())) == sorted(map(str, other.to_pylist()))
