"""AdaptiveThreshold: the rule, its bound, its equality with the engine's kernel, and River's own conventions."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import anomaly, base, checks, compose, preprocessing

from anomaly.engine.layout import Policies
from anomaly.engine.model import ThresholdPolicy
from anomaly.engine.outcome import Change, Kind, Status
from anomaly.engine.settle import adapt
from anomaly.errors import ConfigError, StateError
from anomaly.thresholds.adaptive import AdaptiveThreshold
from tests.engine import world

K, Q_FLEET = 3.7, 1.3
SCORES = st.lists(st.floats(width=32) | st.floats(0.0, 10.0, width=32), max_size=200)
ADAPTATIONS = st.sampled_from([0.0, 0.05, 0.2, 0.9, 1.0])


class Given(base.AnomalyDetector):
    """A detector whose score is what the reading says; counts what it has learned."""

    def __init__(self) -> None:
        self.learned: list[float] = []
        self.scored = 0

    def score_one(self, x: dict[str, float]) -> float:
        """The score that the reading carries."""
        self.scored += 1
        return x["score"]

    def learn_one(self, x: dict[str, float]) -> None:
        """Remember it."""
        self.learned.append(x["score"])


def threshold(adaptation: float = 0.2, **changes: Any) -> AdaptiveThreshold:
    """A threshold around a detector that answers given scores."""
    return AdaptiveThreshold(Given(), K, Q_FLEET, ThresholdPolicy.from_adaptation(adaptation), **changes)


def kernel_policies(policy: ThresholdPolicy) -> Policies:
    """One arm as the kernel takes it, from the formula and not from the class under test."""

    def one(value: float) -> np.ndarray:
        return np.array([value], np.float32)

    return Policies(
        k=one(K),
        q_fleet=one(Q_FLEET),
        low=one(max(0.0, 1.0 - policy.bound)),
        high=one(1.0 + policy.bound),
        up=one(math.exp(policy.rate * policy.quantile)),
        down=one(math.exp(-policy.rate * (1.0 - policy.quantile))),
        gate=one(policy.gate),
        raised=one(policy.raised),
        model=np.zeros(1, np.int64),
        k_abrupt=one(math.inf),
        k_born_ill=one(math.inf),
        k_silence=one(math.inf),
    )


@given(st.lists(st.floats(width=32) | st.floats(0.0, 10.0, width=32) | st.none(), max_size=200), ADAPTATIONS)
@settings(max_examples=200, deadline=None)
def test_the_river_learner_equals_the_kernel_to_the_last_bit(scores: list[float | None], adaptation: float) -> None:
    """The tracked quantile is the same float32 as the engine's after every score; None stands for a score of q."""
    learner = threshold(adaptation)
    policies = kernel_policies(learner.policy)
    q = np.float32(Q_FLEET)
    for given_score in scores:
        score = float(q) if given_score is None else given_score
        learner.update(score)
        q = np.float32(adapt(q, np.float32(score), 0, policies))
        assert np.float32(learner.q).tobytes() == q.tobytes()


@pytest.mark.parametrize("adaptation", [0.0, 0.2, 1.0])
def test_the_engine_alarms_as_the_river_learner_does(adaptation: float) -> None:
    """Thresholds and alarms are, to the bit, those of one learner a vehicle on its scores, that rests in an episode."""
    arm = world.arm(adaptation, k=K, q_fleet=Q_FLEET)
    engine, batch = world.engine(arm, text=f"{world.FLEET}lasting_after = 0\n"), world.stream(4, 3_000, vehicles=20)
    outcome = engine.decide(batch)
    changed = np.flatnonzero(outcome.episodes.kind == Kind.FAULT)
    rows = zip(outcome.episodes.row[changed].tolist(), outcome.episodes.change[changed].tolist(), strict=True)
    turns = {row: change for row, change in rows if change != Change.UPDATE}
    wrong: set[str] = set()
    decisions = outcome.decisions
    learners: dict[str, AdaptiveThreshold] = {}
    moved = 0
    for place in np.flatnonzero(outcome.status[decisions.row] == Status.SCORED):
        new = AdaptiveThreshold(Given(), arm.model.k, arm.model.q_fleet, arm.model.policy)
        learner = learners.setdefault(batch.vehicles[decisions.row[place]], new)
        score = float(decisions.score[place])
        assert float(decisions.threshold[place]) == learner.threshold
        assert bool(decisions.kinds[place] >> Kind.FAULT & 1) == learner.classify(score)
        vehicle, row = batch.vehicles[decisions.row[place]], int(decisions.row[place])
        if adaptation == 1.0 or (vehicle not in wrong and not learner.classify(score)):
            learner.update(score)
        if turns.get(row) == Change.CLOSED:
            learner.episode_ended(confirmed=False)
        wrong = wrong - {vehicle} if turns.get(row) == Change.CLOSED else wrong | ({vehicle} if row in turns else set())
        moved += learner.q != np.float32(Q_FLEET)
    assert (moved > 100) == (adaptation > 0)


@given(SCORES, st.sampled_from([0.0, 0.05, 0.2, 0.9]))
@settings(max_examples=200, deadline=None)
def test_no_scores_move_the_threshold_beyond_its_bound(scores: list[float], adaptation: float) -> None:
    """Whatever is seen, the threshold stays within adaptation / 2 of the fleet's."""
    learner = threshold(adaptation)
    for score in scores:
        learner.update(score)
        assert abs(learner.threshold / K - 1.0) <= adaptation / 2 + 1e-6


def test_an_episode_that_came_to_nothing_raises_the_threshold_a_step_and_a_confirmed_fault_takes_all_back() -> None:
    """Each by 1 + adaptation, five times at most; a frozen threshold and one without bound do not know of it."""
    for adaptation, step in ((0.2, 1.2), (0.0, 1.0), (1.0, 1.0)):
        learner = threshold(adaptation)
        rises = []
        for _ in range(7):
            learner.episode_ended(confirmed=False)
            rises.append(learner.threshold / K)
        assert rises == pytest.approx([step**n for n in (1, 2, 3, 4, 5, 5, 5)], rel=1e-6)
        learner.episode_ended(confirmed=True)
        assert learner.threshold == threshold(adaptation).threshold


def ramp_alarms(adaptation: float) -> int:
    """Alarms in the last tenth of a fault that grows so slowly that it takes 20,000 readings to grow tenfold."""
    learner = threshold(adaptation)
    alarms = []
    for step in range(20_000):
        score = 1.0 * 10.0 ** (step / 20_000)
        alarms.append(learner.classify(score))
        learner.update(score)
    return sum(alarms[-2_000:])


def test_a_slow_fault_is_not_learned_as_normal() -> None:
    """The bounded threshold alarms all through the end of a slow ramp; without bound and gate the same is silent."""
    assert ramp_alarms(0.2) == 2_000
    assert ramp_alarms(1.0) == 0


def test_q_settles_at_the_quantile_of_a_quiet_vehicle() -> None:
    """Where the bound leaves room, about five in a hundred scores lie above q in the long run."""
    generator = np.random.default_rng(3)
    learner = AdaptiveThreshold(Given(), 4.0, 1.5, ThresholdPolicy(0.9, 0.02, math.inf))
    scores = generator.gamma(4.0, 0.25, 20_000)
    above = []
    for score in scores:
        above.append(score > learner.q)
        learner.update(float(score))
    assert 0.04 < np.mean(above[5_000:]) < 0.06


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e300])
def test_a_score_that_is_no_number_changes_nothing(score: float) -> None:
    """NaN, infinities and what is infinite in float32 leave the state, and only +infinity is an alarm."""
    learner = threshold()
    learner.update(1.0)
    before = learner.to_state()
    learner.update(score)
    assert learner.to_state() == before
    assert learner.classify(score) == (score > 0)


def test_a_score_above_the_gate_is_not_learned_from() -> None:
    """A score of 1.3 q or more neither raises nor lowers q."""
    learner = threshold()
    learner.update(1.31 * Q_FLEET)
    assert learner.q == np.float32(Q_FLEET)
    learner.update(1.29 * Q_FLEET)
    assert learner.q > Q_FLEET


def test_each_reading_is_scored_once_and_alarms_are_kept_from_the_detector() -> None:
    """Learning scores once; a protected detector learns neither alarms nor NaN, an unprotected one everything."""
    scores = [1.0, 9.0, math.nan, 2.0]
    for protect, learned in ((True, [1.0, 2.0]), (False, scores)):
        learner = threshold(protect_anomaly_detector=protect)
        for score in scores:
            learner.learn_one({"score": score})
        assert learner.anomaly_detector.scored == len(scores)
        assert str(learner.anomaly_detector.learned) == str(learned)


def test_a_score_of_zero_is_a_score() -> None:
    """A detector that answers 0 for long, and constant scores, neither switch alarms off nor lock learning out."""
    learner = threshold()
    for _ in range(500):
        learner.learn_one({"score": 0.0})
    assert len(learner.anomaly_detector.learned) == 500
    assert learner.classify(K)


def test_it_filters_in_a_pipeline() -> None:
    """In the middle of a River pipeline, what alarms is not learned by the steps behind it."""
    model = compose.Pipeline(threshold(), compose.Select("score"), Given())
    for score in (1.0, 9.0, 2.0):
        model.learn_one({"score": score})
    assert model["Given"].learned == [1.0, 2.0]


def test_state_goes_on_where_it_was() -> None:
    """A threshold restored from its state behaves as the original; the state is plain numbers with a version."""
    first, second = threshold(), threshold()
    for score in np.random.default_rng(5).gamma(4.0, 0.25, 300):
        first.update(float(score))
    first.episode_ended(confirmed=False)
    second.from_state(first.to_state())
    assert second.threshold == first.threshold != threshold().threshold
    assert first.to_state() == {"version": 2, "q": first.q, "unconfirmed": 1}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"version": 3, "q": 1.3}, "version 3"),
        ({"version": 2, "q": 9.0, "unconfirmed": 0}, "another model"),
        ({"version": 2}, "nan"),
        ({"version": 2, "q": Q_FLEET, "unconfirmed": 6}, "unconfirmed = 6"),
    ],
)
def test_state_that_does_not_fit_is_refused(state: dict[str, float], message: str) -> None:
    """A newer version, another model's q and a missing q are refused with the reason, and change nothing."""
    learner = threshold()
    with pytest.raises(StateError, match=message):
        learner.from_state(state)
    assert learner.q == np.float32(Q_FLEET)


@pytest.mark.parametrize("change", [{"k": 0.0}, {"q_fleet": math.nan}, {"q_fleet": -1.0}])
def test_constants_that_cannot_be_a_threshold_are_refused(change: dict[str, float]) -> None:
    """k and q_fleet must be positive numbers; the message names the one that is not."""
    with pytest.raises(ConfigError, match=next(iter(change))):
        AdaptiveThreshold(Given(), **{"k": K, "q_fleet": Q_FLEET, **change})


def local_sample(_model: object, scale: int = 1) -> Iterator[list[tuple[dict[str, float], int]]]:
    """What River's checks would download: here readings of a cloud, one in fifty far outside."""
    generator = np.random.default_rng(11)
    labels = generator.random(200 * scale) < 0.02
    points = generator.normal(0.0, 1.0, (len(labels), 3)) + 6.0 * labels[:, None]
    yield [(dict(zip("abc", row, strict=True)), int(y)) for row, y in zip(points.tolist(), labels, strict=True)]


def test_it_passes_rivers_own_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check that River has for such an estimator passes, those on data with a local sample."""
    monkeypatch.setattr(checks, "_yield_datasets", local_sample)
    for params in AdaptiveThreshold._unit_test_params():
        model = AdaptiveThreshold(**params)
        names = [check.__name__ for check in checks.yield_checks(model)]
        assert {"check_clone_is_independent", "check_roc_auc", "check_bounded_memory_growth"} <= set(names)
        checks.check_estimator(model)


def test_a_clone_keeps_the_constants_and_forgets_what_was_learned() -> None:
    """A clone starts at q_fleet with a fresh detector and the same policy."""
    model = AdaptiveThreshold(preprocessing.StandardScaler() | anomaly.OneClassSVM(), K, Q_FLEET)
    model.update(1.0)
    clone = model.clone()
    assert clone.q == np.float32(Q_FLEET) != model.q
    assert clone.policy == model.policy
    assert clone.anomaly_detector is not model.anomaly_detector


def test_importing_it_brings_neither_pandas_nor_scikit_learn() -> None:
    """The scorer may import thresholds and detectors without paying for pandas, scikit-learn or river.anomaly."""
    code = (
        "import sys, anomaly.thresholds.adaptive, anomaly.detectors.onnx, anomaly.registry.store\n"
        "print([m for m in ('pandas', 'sklearn', 'river.anomaly', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
