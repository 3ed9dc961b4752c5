"""Features logged live are those computed again, bit for bit, and a column that knows the future is caught."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from anomaly.cli.feedback import app
from anomaly.errors import DataError, GateError
from anomaly.feedback import features
from anomaly.service.parity import parity
from anomaly.service.replay import Run
from anomaly.service.rows import FEATURES, read_archive, read_decisions, read_log
from tests.service.rig import Rig


def run_of(rig: Rig) -> Run:
    """The run that was scored."""
    return Run(rig.folder / "run", "g", rig.registry)


def test_every_kept_decision_has_its_features(scored: Rig) -> None:
    """The log of features has the rows of the decisions, in the frame's columns."""
    run = scored.folder / "run"
    logged = read_log(run, FEATURES, features.schema()).sort_by("offset")
    keys = [(row["partition"], row["offset"], row["vehicle"]) for row in logged.to_pylist()]
    decided = [(row["partition"], row["offset"], row["vehicle"]) for row in read_decisions(run).to_pylist()]
    assert sorted(keys) == sorted(decided)
    assert {len(row) for row in logged["features"].to_pylist()} == {8}
    assert len(set(logged["frame"].to_pylist())) == 1


def test_what_is_computed_again_is_equal_to_the_bit(scored: Rig) -> None:
    """Over a whole run, with restarts of baselines and broken messages, no row differs."""
    found = parity(scored.fleet, run_of(scored))
    assert (found.compared, found.differing, found.first) == (720, 0, [])


def history(rig: Rig, path: Path, shift: int) -> Path:
    """The run's readings as a history; `shift`: signal `b` is that of so many readings later of the same vehicle."""
    table = read_archive(rig.folder / "run", rig.fleet).sort_by([("vehicle", "ascending"), ("ts", "ascending")])
    values, vehicles = table["b"].to_pylist(), table["vehicle"].to_pylist()
    later = [
        values[row + shift] if row + shift < len(values) and vehicles[row + shift] == vehicles[row] else values[row]
        for row in range(len(values))
    ]
    columns = {name: table[name] for name in ("vehicle", "ts", "a", "c", "region")}
    pq.write_table(pa.table({**columns, "b": pa.array(later, pa.float32())}), path)
    return path


def test_a_column_that_knows_the_future_is_caught(scored: Rig, tmp_path: Path) -> None:
    """A history whose column was filled in with what came later differs from what was live; as it was, it does not."""
    honest = parity(scored.fleet, run_of(scored), history(scored, tmp_path / "honest.parquet", 0))
    assert honest.differing == 0
    planted = parity(scored.fleet, run_of(scored), history(scored, tmp_path / "planted.parquet", 5))
    assert planted.differing > 0.8 * planted.compared
    assert planted.signals["b"] == planted.differing


def test_the_command_ends_with_1_where_a_row_differs(scored: Rig, tmp_path: Path) -> None:
    """A check in a pipeline fails; without a difference it does not."""
    where = ["--config", str(scored.folder / "fleet.toml"), "--dir", str(scored.folder / "run"), "--group", "g"]
    arguments = ["parity", *where, "--models", str(scored.registry.folder)]
    assert "720 rows of features compared, 0 differ" in CliRunner().invoke(app, arguments).stdout
    planted = history(scored, tmp_path / "planted.parquet", 5)
    with pytest.raises(GateError, match="others than live"):
        CliRunner().invoke(app, [*arguments, "--data", str(planted)], catch_exceptions=False)


def test_a_run_without_features_says_so(scored: Rig, tmp_path: Path) -> None:
    """Who looks in the wrong folder is told which option to change."""
    with pytest.raises(DataError, match="--dir"):
        parity(scored.fleet, run_of(scored)._replace(folder=tmp_path))
