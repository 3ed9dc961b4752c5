"""The family that `auto` takes, and fleets too small to set vehicles aside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomaly import settings
from anomaly.cli.main import main
from anomaly.engine.frame import OwnPast
from anomaly.errors import DataError
from anomaly.fleet import Conformal, Fleet
from anomaly.registry.store import Registry
from tests.training.test_fit import FLEET, fleet, wearing
from training.auto import train
from training.fit import fit
from training.frame import own_past
from training.history import split_vehicles
from training.train import Recipe, card, champion_frame, publish


def test_auto_takes_the_family_that_costs_least_and_says_why() -> None:
    """All families that know the fleet are tried on the validation vehicles; the card has a line for each."""
    history = wearing(1)
    split = split_vehicles(history.names, 0, 1)
    trained = train(fleet("auto"), history, split, 0)
    assert trained.choice is not None
    made = {one.family: one.figures for one in trained.choice.tried if one.figures}
    assert set(made) == {"distance", "pca", "isolation-forest", "autoencoder"}
    best = min(made, key=lambda name: (made[name].cost, -made[name].lead))
    assert (trained.family, trained.figures) == (best, made[best])
    assert trained.onnx == fit(fleet(best), history, split, 0).onnx
    assert all(f"| {name} | " in card(Recipe(fleet("auto"), history, split, 0), trained) for name in made)


def test_without_a_fault_to_choose_by_nothing_is_tried() -> None:
    """A history of healthy readings gets the first family, and its card says so."""
    history = wearing(1)._replace(faults=[])
    trained = train(fleet("auto"), history, split_vehicles(history.names, 0, 1), 0)
    assert trained.family == "distance"
    assert trained.choice is not None
    assert not trained.choice.tried
    assert "no validation vehicle has a confirmed fault" in trained.choice.why


def test_a_family_that_cannot_be_had_is_a_line_of_the_card() -> None:
    """With wide features the distance is not tried, and what is refused is said."""
    history = wearing(1, life=60)
    split = split_vehicles(history.names, 0, 1)
    trained = train(fleet("auto", "wide"), history, split, 0)
    assert trained.choice is not None
    assert {one.family for one in trained.choice.tried} == {"pca", "isolation-forest", "autoencoder"}


def test_what_every_family_refuses_is_refused() -> None:
    """A history too short for any model says so, as it does for the family a person names."""
    history = wearing(life=41)
    with pytest.raises(DataError, match="burn_in"):
        train(fleet("auto"), history, split_vehicles(history.names, 0, None), 0)


@pytest.mark.parametrize(
    ("more", "features"),
    [
        ('[model]\nfamily = "auto"', "conformal"),
        ('[model]\nfamily = "auto"\nfeatures = "wide"', "wide"),
        ('[model]\nfamily = "auto"\nabrupt_time_constant = 3', "evidence"),
        ('[signals.b]\n[model]\nfamily = "auto"', "evidence"),
        ('[model]\nfamily = "distance"', "evidence"),
    ],
)
def test_auto_is_conformal_for_one_signal_only(more: str, features: str) -> None:
    """A single signal is judged by its own past, unless something is asked for that this cannot give."""
    text = FLEET.split("[signals.b]")[0] + more
    assert settings.parse(text, Fleet, "fleet.toml").frame_features == features


def test_a_champion_that_auto_made_lends_its_frame(tmp_path: Path) -> None:
    """Training again with `auto` keeps the frame, whichever family it took."""
    registry, history = Registry(tmp_path), wearing(1)
    split = split_vehicles(history.names, 0, 1)
    manifest = publish(registry, Recipe(fleet("auto"), history, split, 0), train(fleet("auto"), history, split, 0))
    kept = champion_frame(registry, fleet("auto"))
    assert kept is not None
    assert kept.digest == manifest.frame


def test_other_settings_of_a_streams_past_need_another_frame(tmp_path: Path) -> None:
    """A champion's frame is kept while `[model.conformal]` asks for what it has, and not afterwards."""
    registry, history = Registry(tmp_path), wearing(1)
    asked = fleet("conformal")
    split = split_vehicles(history.names, 0, 1)
    publish(registry, Recipe(asked, history, split, 0), train(asked, history, split, 0))
    table = msgspec.structs.replace(asked.model, conformal=Conformal(statistics=("shift", "level"), memory=100))
    other = msgspec.structs.replace(asked, model=table)
    assert champion_frame(registry, asked) is not None
    assert champion_frame(registry, other) is None
    assert own_past(other) == OwnPast(statistics=("level", "shift"), memory=100)


def test_few_vehicles_are_divided_in_time() -> None:
    """Four vehicles are all fitted on in their earlier readings; what comes later sets k and has no part in the fit."""
    history = wearing(1, vehicles=4)
    split = split_vehicles(history.names, 0, None)
    cuts = split.cuts(history)
    assert split.blocked
    assert cuts.tolist() == [44] * 4
    trained = fit(fleet(), history, split, 0)
    values = history.batch.values.copy()
    values[history.batch.ts > 44] *= 3
    changed = history._replace(batch=replace(history.batch, values=values))
    again = fit(fleet(), changed, split, 0)
    assert (again.frame.mean, again.frame.sd) == (trained.frame.mean, trained.frame.sd)
    assert again.k != trained.k


def test_five_vehicles_are_not_divided_in_time() -> None:
    """From five vehicles on, some are set aside: nobody is told otherwise."""
    assert not split_vehicles(list("abcde"), 0, None).blocked
    assert not split_vehicles(list("abcde"), 0, None).notes
    assert "fewer than 5 vehicles" in split_vehicles(list("abcd"), 0, None).notes[0]


def single(folder: Path) -> None:
    """One vehicle with one signal, four months of it, an hour a reading, with a jump in the last month."""
    count = 120 * 24
    values = np.random.default_rng(0).normal(20.0, 1.0, count) + 3.0 * np.sin(np.arange(count) * np.pi / 12)
    values[100 * 24 : 100 * 24 + 3] += 40.0
    ts = np.arange(count, dtype=np.int64) * 3_600_000 + 1_700_000_000_000
    table = pa.table({"unit": ["pump"] * count, "ts": ts, "bar": values})
    pq.write_table(table.slice(0, 90 * 24), folder / "history.parquet")
    pq.write_table(table.slice(90 * 24), folder / "later.parquet")


def test_one_vehicle_with_one_signal_works_as_a_user_types_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`init`, `train`, `backtest` and `score` on an embedded log: few vehicles are said, and a jump is alarmed."""
    single(tmp_path)
    monkeypatch.chdir(tmp_path)

    def anomaly(line: str) -> str:
        monkeypatch.setattr("sys.argv", ["anomaly", *line.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, line
        return "".join(capfd.readouterr())

    (tmp_path / "fleet.toml").write_text(
        anomaly("init history.parquet --vehicle unit --time ts --name pump").split("\n1 vehicles")[0]
    )
    assert "fewer than 5 vehicles" in anomaly("train --config fleet.toml --data history.parquet")
    assert "1 in 29" in anomaly("backtest --config fleet.toml --data later.parquet")
    anomaly("topics create --config fleet.toml --log log.db")
    anomaly("produce later.parquet --config fleet.toml --log log.db")
    assert '"alarms": 1' in anomaly("score --config fleet.toml --log log.db --stop-at-end --metrics-port 0")
