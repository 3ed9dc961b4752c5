"""What the scorer is told: arms, who is in which, when that changes, and what it does without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from anomaly.engine.model import Model
from anomaly.errors import ConfigError, ModelError
from anomaly.experiments.active import active_arms
from anomaly.experiments.assignment import key
from anomaly.experiments.controller import Effects, Pinned, act, begin, stop
from anomaly.experiments.file import Experiment, ExperimentArm, Layer, Threshold
from tests.engine.world import arm
from tests.experiments.plan import changed, experiment, ramped
from tests.experiments.test_controller import look

FLEET = [f"v{number}" for number in range(4_000)]
HALVES = [
    ExperimentArm(name="same", role="control", share=0.5),
    ExperimentArm(name="lower", role="treatment", share=0.5, threshold=Threshold(scale=0.5, adaptation=0.0)),
]


def resolve(reference: str) -> Model:
    """A model of that name."""
    return arm(digest=f"digest of {reference}").model._replace(name=reference)


def pin(reference: str) -> Pinned:
    """What the registry would answer."""
    name = reference.replace("@challenger", "/2")
    return Pinned(name, f"digest of {name}")


def start(folder: Path, plan: Experiment, **more: Any) -> None:
    """Begin an experiment."""
    begin(folder, plan, 0, pin, **more)


def test_without_experiments_everybody_has_the_champion(tmp_path: Path) -> None:
    """One arm, the whole fleet; a file that nobody started changes nothing."""
    (tmp_path / "colder.toml").write_text("id = ")
    arms, assign, problems = active_arms(tmp_path, resolve)
    assert [(one.name, one.propensity, one.model.name) for one in arms] == [("champion", 1.0, "@champion")]
    assert (assign("v1"), list(problems)) == (0, [])


def test_an_experiment_splits_its_share_of_the_vehicles(tmp_path: Path) -> None:
    """As its file says, on the first step of the ramp, with the models that were pinned."""
    start(tmp_path, ramped())
    arms, assign, _ = active_arms(tmp_path, resolve)
    assert [(one.name, round(one.propensity, 6), one.model.name) for one in arms] == [
        ("champion", 0.9, "@champion"),
        ("colder/old", 0.05, "fleet/1"),
        ("colder/new", 0.05, "fleet/2"),
    ]
    counts = [sum(assign(vehicle) == place for vehicle in FLEET) / len(FLEET) for place in range(3)]
    assert counts == [pytest.approx(0.9, abs=0.02), pytest.approx(0.05, abs=0.015), pytest.approx(0.05, abs=0.015)]


def test_the_state_of_the_controller_acts(tmp_path: Path) -> None:
    """The ramp's next step, and the end; nobody switches arm."""
    start(tmp_path, ramped())
    before = active_arms(tmp_path, resolve).assign
    act(tmp_path, look(4), "colder", Effects(_never, _never))
    arms, after, _ = active_arms(tmp_path, resolve)
    assert [round(one.propensity, 6) for one in arms] == [0.0, 0.5, 0.5]
    assert all(before(vehicle) in (0, after(vehicle)) for vehicle in FLEET)
    stop(tmp_path, "colder", 9, "enough")
    assert [one.name for one in active_arms(tmp_path, resolve).arms] == ["champion"]


def test_two_experiments_of_one_layer_share_no_vehicle(tmp_path: Path) -> None:
    """Overlapping ranges are refused at the start; side by side is fine."""
    start(tmp_path, changed(layer=Layer(range=(0, 6_000))))
    with pytest.raises(ConfigError, match="both have the buckets 5000 to 6000 of layer default"):
        start(tmp_path, changed(id="warmer", layer=Layer(range=(5_000, 10_000))))
    start(tmp_path, changed(id="warmer", layer=Layer(range=(6_000, 10_000))))
    assert len(active_arms(tmp_path, resolve).arms) == 5


def test_two_layers_cannot_both_set_the_model(tmp_path: Path) -> None:
    """A vehicle has one model."""
    start(tmp_path, changed(layer=Layer(name="a")))
    with pytest.raises(ConfigError, match="in the layers a and b and both set the model"):
        start(tmp_path, changed(id="warmer", layer=Layer(name="b")))


def test_a_model_and_a_threshold_are_tried_independently(tmp_path: Path) -> None:
    """In two layers every vehicle is in both experiments, a quarter in each pair of arms."""
    start(tmp_path, experiment())
    start(tmp_path, changed(id="lower", layer=Layer(name="threshold"), arms=HALVES, on_pass="hold"))
    arms, assign, _ = active_arms(tmp_path, resolve)
    found = {arms[place].name: np.mean([assign(v) == place for v in FLEET]) for place in range(len(arms))}
    pairs = {name: share for name, share in found.items() if share}
    assert set(pairs) == {f"colder/{m}+lower/{t}" for m in ("old", "new") for t in ("same", "lower")}
    assert list(pairs.values()) == [pytest.approx(0.25, abs=0.03)] * 4
    assert sum(one.propensity for one in arms) == pytest.approx(1.0)
    halved = next(one.model for one in arms if one.name == "colder/new+lower/lower")
    whole = next(one.model for one in arms if one.name == "colder/new+lower/same")
    assert (halved.name, halved.k, halved.policy.bound) == ("fleet/2", whole.k / 2, 0.0)
    assert halved.digest != whole.digest


def test_only_eligible_vehicles_take_part(tmp_path: Path) -> None:
    """Those on the list, split as everybody is; a list that is lost leaves the champion."""
    np.save(tmp_path / "list.npy", np.sort(np.array([key(vehicle) for vehicle in FLEET[:1_000]], np.uint64)))
    start(tmp_path, experiment(), eligible="list.npy")
    _, assign, _ = active_arms(tmp_path, resolve)
    assert all(assign(vehicle) > 0 for vehicle in FLEET[:1_000])
    assert not any(assign(vehicle) for vehicle in FLEET[1_000:])
    (tmp_path / "list.npy").unlink()
    arms, _, (problem,) = active_arms(tmp_path, resolve)
    assert [one.name for one in arms] == ["champion"]
    assert "list.npy cannot be used" in problem


def _refuse(reference: str) -> Model:
    if reference == "fleet/2":
        raise ModelError("fleet/2: model.onnx is not what the manifest says")
    return resolve(reference)


@pytest.mark.parametrize(
    ("resolver", "said"),
    [
        (_refuse, "model.onnx is not what the manifest says"),
        (lambda name: resolve(name)._replace(digest="x"), "is not the model that it was"),
    ],
)
def test_whatever_is_wrong_the_champion_scores(tmp_path: Path, resolver: Any, said: str) -> None:
    """A model that no longer verifies, or is another one: the experiment is left out and says why."""
    start(tmp_path, experiment())
    arms, assign, (problem,) = active_arms(tmp_path, resolver)
    assert [one.name for one in arms] == ["champion"]
    assert not any(map(assign, FLEET))
    assert said in problem
    assert "its vehicles score with the champion" in problem


def test_a_state_that_cannot_be_read_leaves_the_others(tmp_path: Path) -> None:
    """It is said, and the other experiment runs on."""
    start(tmp_path, changed(layer=Layer(range=(0, 5_000))))
    (tmp_path / "warmer.state.json").write_bytes(b"\xff{")
    arms, _, (problem,) = active_arms(tmp_path, resolve)
    assert len(arms) == 3
    assert "warmer.state.json cannot be used" in problem


def shadowed(**fields: object) -> Experiment:
    """The experiment with its treatment as a shadow."""
    control, treatment = experiment().arms
    return changed(arms=[control, msgspec.structs.replace(treatment, mode="shadow", **fields)])


def test_in_a_shadows_arm_the_control_acts(tmp_path: Path) -> None:
    """The model of the control decides in both arms, with the threshold of the control; the other is beside it."""
    start(tmp_path, shadowed())
    arms, _, problems = active_arms(tmp_path, resolve)
    assert not problems
    assert [(arm.name, arm.model.name, arm.shadow and arm.shadow.name) for arm in arms] == [
        ("champion", "@champion", None),
        ("colder/old", "fleet/1", None),
        ("colder/new", "fleet/1", "fleet/2"),
    ]


def test_a_threshold_may_be_a_shadow_and_a_shadow_that_is_the_acting_model_is_none(tmp_path: Path) -> None:
    """The model with another threshold has another digest; a promoted model is not compared with itself."""
    start(tmp_path, msgspec.structs.replace(shadowed(model=None, threshold=Threshold(scale=0.5)), on_pass="hold"))
    arms, _, _ = active_arms(tmp_path, resolve)
    acting, tried = arms[-1].model, arms[-1].shadow
    assert tried is not None
    assert (tried.k, tried.digest == acting.digest) == (0.5 * acting.k, False)
    control, treatment = shadowed().arms
    either = [msgspec.structs.replace(control, model=None), treatment]
    start(tmp_path, changed(arms=either, revision=2))
    arms, _, problems = active_arms(tmp_path, lambda _reference: resolve("fleet/2"))
    assert (arms[-1].name, arms[-1].shadow, list(problems)) == ("colder/new", None, [])


def _never(model: str, reason: str) -> None:
    raise AssertionError(model)
