"""A shadow in a run: logged the same however the run went, compared with what acted, promoted by files alone."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly import settings
from anomaly.experiments.controller import begin
from anomaly.experiments.file import Experiment
from anomaly.experiments.page import page
from anomaly.experiments.report import report, report_lines, status_line
from anomaly.feedback import shadow_log
from anomaly.service.compare import Since
from anomaly.service.inspect import show_vehicle
from anomaly.service.look import conclude, known, pin
from anomaly.service.metrics import Metrics
from anomaly.service.queue import queue
from anomaly.service.replay import Run, replay_archive
from anomaly.service.rows import SHADOW, SHADOW_DAYS, read_decisions, read_log
from anomaly.service.scorer import Options, Scorer
from anomaly.service.views import Place, ask
from anomaly.stream.ports import Record
from anomaly.telemetry.encode import encode_readings
from tests.service.child import score as score_apart
from tests.service.rig import FLEET, Rig, make_rig, publish, readings
from tests.service.test_control import START, day

TEXT = """
id = "{id}"
label_delay_days = 0
min_days = {min_days}
min_vehicles = 2
on_pass = "promote"
layer = {{ range = {range} }}
primary = {{ metric = "alerts" }}
guardrails = [{{ metric = "alerts", max_harm = 0.1, method = "first_event" }}]
[[arms]]
name = "old"
role = "control"
model = "{control}"
share = 0.1
[[arms]]
name = "new"
role = "treatment"
mode = "shadow"
model = "{model}"
share = 0.9
"""
SHADOWS = {
    "good": {"model": "bus/1", "range": [0, 4000]},
    "equal": {"model": "bus/3", "range": [4000, 7000]},
    "bad": {"model": "bus/4", "range": [7000, 10000]},
}


def score(rig: Rig, folder: Path) -> None:
    """Score what is on the log and was not scored yet, in this process."""
    log = rig.log()
    Scorer(rig.fleet, log, rig.registry, Options(folder, "bus", stop_at_end=True), Metrics()).run()
    log.close()


def tried(rig: Rig, folder: Path, at: int) -> None:
    """The experiment begins before the first reading."""
    plan = settings.parse(
        TEXT.format(id="tried", min_days=0, control="bus/1", model="bus/2", range=[0, 10_000]), Experiment, "tried.toml"
    )
    (folder / "experiments").mkdir(parents=True)
    begin(folder / "experiments", plan, at, lambda reference: pin(rig.registry, reference))


def begun(folder: Path, models: Path, text: str) -> Rig:
    """A small fleet with a shadow beside the champion, nothing scored yet."""
    folder.mkdir(exist_ok=True)
    rig = make_rig(folder, models, text)
    tried(rig, folder / "run", START)
    return rig


def run(folder: Path, models: Path, text: str = FLEET, parts: int = 1) -> Rig:
    """The same, scored by a process that ends and starts `parts` times."""
    rig = begun(folder, models, text)
    batch = readings()
    edges = np.linspace(0, len(batch), parts + 1).astype(int).tolist()
    for start, stop in itertools.pairwise(edges):
        send(rig, batch.rows(start, stop))
        score(rig, folder / "run")
    return rig


def send(rig: Rig, batch: Any) -> None:
    """Put readings onto the log."""
    values = encode_readings(batch, rig.fleet)
    rig.send("telemetry", [Record(v.encode(), one) for v, one in zip(batch.vehicles, values, strict=True)])


def logged(folder: Path) -> list[list[dict[str, Any]]]:
    """The rows of both tables of the shadow log, in an order that does not depend on how the run went."""
    rows = read_log(folder, SHADOW, shadow_log.schema())
    days = shadow_log.summed(read_log(folder, SHADOW_DAYS, shadow_log.day_schema()))
    return [sorted(table.to_pylist(), key=lambda row: (row["vehicle"], row["ts"])) for table in (rows, days)]


@pytest.fixture(scope="session")
def shadowed(tmp_path_factory: pytest.TempPathFactory, stock: Path) -> Rig:
    """A run with a shadow, for tests that only read it."""
    return run(tmp_path_factory.mktemp("shadowed"), stock)


SAMPLED = FLEET.replace('decisions = "all"', "sample = 0.1")
SMALL = SAMPLED.replace("batch = 64", "batch = 7").replace("= 150", "= 31")


def test_the_log_is_the_same_however_the_run_was_cut(tmp_path: Path, stock: Path) -> None:
    """Small batches, many checkpoints and restarts lead to the rows and the sums of one go."""
    runs = [run(tmp_path / name, stock, own, parts) for name, own, parts in (("one", SAMPLED, 1), ("many", SMALL, 5))]
    one, many = (logged(each.folder / "run") for each in runs)
    assert one == many
    rows, days = one
    assert sum(row["compared"] for row in days) > 2 * len(rows) > 100
    assert any(row["shadow_alarm"] and not row["alarm"] for row in rows)


@pytest.mark.parametrize("place", ["batch.after_decide:3", "checkpoint.after_commit:2", "cut.after_write:2"])
def test_a_kill_changes_nothing(tmp_path: Path, stock: Path, place: str) -> None:
    """Killed at this place and started again, the run ends with the rows and sums of one that was not."""
    killed = begun(tmp_path / "killed", stock, SAMPLED)
    send(killed, readings())
    assert score_apart(killed, killed.folder / "run", place) == -signal.SIGKILL
    assert score_apart(killed, killed.folder / "run") == 0
    whole = run(tmp_path / "whole", stock, SAMPLED)
    assert logged(killed.folder / "run") == logged(whole.folder / "run")


def test_rows_are_all_that_either_alarms_for_and_a_sample(shadowed: Rig, tmp_path: Path, stock: Path) -> None:
    """Of a log that keeps all and one that samples, the second has every alarm of either side, and few others."""
    whole, _ = logged(shadowed.folder / "run")
    sampled, days = logged(run(tmp_path / "sampled", stock, SAMPLED).folder / "run")
    alarms = [row for row in whole if row["alarm"] or row["shadow_alarm"]]
    assert [row for row in sampled if row["alarm"] or row["shadow_alarm"]] == alarms
    assert len(sampled) - len(alarms) < 0.3 * (len(whole) - len(alarms))
    assert sum(row["compared"] for row in days) == len(whole)
    assert sum(row["both"] for row in days) == sum(row["alarm"] and row["shadow_alarm"] for row in alarms) > 0


def test_what_acted_is_as_the_decision_log_has_it(shadowed: Rig) -> None:
    """Score, threshold and level of the acting model are those of the decision at the same place."""
    folder = shadowed.folder / "run"
    places = {(row["partition"], row["offset"]): row for row in read_decisions(folder).to_pylist()}
    rows, _ = logged(folder)
    for row in rows:
        decision = places[row["partition"], row["offset"]]
        assert all(row[name] == decision[name] for name in ("vehicle", "ts", "score", "threshold", "level", "model"))
    assert {row["arm"] for row in rows} == {"tried/new"}
    assert all(row["shadow_top_signals"] for row in rows if row["shadow_alarm"])


def test_a_replay_repeats_shadows_and_sees_one_that_was_changed(shadowed: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row comes out again; with another score in one of them it does not."""
    place = Run(shadowed.folder / "run", "bus", shadowed.registry)
    found = replay_archive(shadowed.fleet, place, Since())
    assert (found.differing, found.shadows) == (0, len(logged(place.folder)[0]))
    told = shadow_log.shadow_table

    def changed(*arguments: Any) -> Any:
        table = told(*arguments)
        score = table["shadow_score"].to_numpy().copy()
        score[0] += 1
        return table.set_column(table.column_names.index("shadow_score"), "shadow_score", [score])

    monkeypatch.setattr(shadow_log, "shadow_table", changed)
    again = replay_archive(shadowed.fleet, place, Since())
    assert again.differing > 0
    assert again.first[0].column == "shadow_score"


def test_a_vehicle_shows_the_model_that_is_tried_beside_its_own(shadowed: Rig) -> None:
    """Now, and at a time in the past; of a vehicle of the control nothing is said."""
    place = Run(shadowed.folder / "run", "bus", shadowed.registry)
    rows, _ = logged(place.folder)
    for at in (None, rows[0]["ts"]):
        shown = show_vehicle(shadowed.fleet, place, rows[0]["vehicle"], at)
        assert shown.shadow is not None
        assert (shown.model, shown.shadow.model) == ("bus/1", "bus/2")
    if at is not None:
        own = [row for row in rows if row["vehicle"] == shown.vehicle and row["ts"] == at]
        assert shown.shadow.threshold == pytest.approx(own[0]["shadow_threshold"])


def test_the_queue_lists_what_only_a_shadow_would_raise(shadowed: Rig) -> None:
    """A vehicle once, with the model's name; the acting model's alerts stand beside it as ever."""
    tasks = [task for task in queue(shadowed.folder / "run", shadowed.fleet) if task.reason == "shadow"]
    answer = ask(
        Place(shadowed.folder / "run", shadowed.fleet, shadowed.registry),
        "select vehicle from shadow group by vehicle having bool_or(shadow_alarm) and not bool_or(alarm)",
    )
    assert {row[0] for row in answer.rows} <= {task.vehicle for task in tasks}
    assert len({task.vehicle for task in tasks}) == len(tasks) > 0
    assert all("bus/2, which is tried as a shadow" in task.why for task in tasks)


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rig, dict[str, list[str]]]:
    """Three shadows beside the champion for some days, and what became of each after each day."""
    folder = tmp_path_factory.mktemp("lived")
    text = FLEET.replace('decisions = "all"', "sample = 0.01").replace("= 150", "= 9000").replace("= 0.02", "= 1")
    rig = make_rig(folder, folder / "models", text)
    for k in (2.5, 1.7, 1.7005, 1.2):
        publish(rig.registry, k=k)
    rig.registry.set_alias("bus", "champion", 2, "the first")
    (folder / "run/experiments").mkdir(parents=True)
    for name, fields in SHADOWS.items():
        (folder / f"run/experiments/{name}.toml").write_text(
            TEXT.format(id=name, min_days=3, control="bus/2", **fields)
        )
    became: dict[str, list[str]] = {name: [] for name in SHADOWS}
    for number in range(6):
        batch = day(number)
        send(rig, batch.take(np.flatnonzero([int(vehicle[1:]) < 400 for vehicle in batch.vehicles])))
        score(rig, folder / "run")
        for name in SHADOWS:
            state = conclude(folder / "run", rig.fleet, name, rig.registry, known(folder / "run", rig.fleet))
            became[name].append(state.status)
    return rig, became


def test_a_good_shadow_is_promoted_a_bad_one_ends_an_equal_one_goes_on(
    lived: tuple[Rig, dict[str, list[str]]],
) -> None:
    """By their files alone; until then none of them acted on any vehicle."""
    rig, became = lived
    assert became["good"][-1] == "promoted"
    assert became["bad"][-1] == "rolled_back"
    assert became["equal"][-1] == "running"
    assert rig.registry.aliases("bus") == {"champion": 1}
    promoted = became["good"].index("promoted")
    rows = [row for row in read_decisions(rig.folder / "run").to_pylist() if not row["arm"].startswith("equal")]
    acted = {((row["ts"] - START) // 86_400 <= promoted, row["model"]) for row in rows}
    assert acted == {(True, "bus/2"), (False, "bus/1")}


def test_the_report_says_how_they_differ(lived: tuple[Rig, dict[str, list[str]]]) -> None:
    """Agreement, figures with intervals, vehicles and decisions to look at, in lines, as JSON and as a page."""
    rig, _ = lived
    found = report(rig.folder / "run/experiments", "good")
    told = found.evidence.beside if found.evidence else None
    assert told is not None
    episodes = next(figure for figure in told.figures if figure.name.startswith("alarm episodes"))
    assert episodes.acting > episodes.shadow
    assert episodes.low <= episodes.difference <= episodes.high < 0
    assert told.low <= told.agreement <= told.high < 1
    assert len(told.examples) == len(told.apart) == 20
    assert all(example.alarms == "acting" and example.signals for example in told.examples)
    text = "\n".join(report_lines(found))
    assert "the shadow agrees in" in status_line(found)
    assert all(words in text for words in ("a shadow: the control acts", "cost in all", "differs on v", "look at v"))
    assert "Decisions to look at" in page(found)
    assert "differ on too few vehicles" in status_line(report(rig.folder / "run/experiments", "equal"))
