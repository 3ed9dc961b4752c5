"""Tests of the profile by stage: what it counts, what it shows, and what it costs."""

from __future__ import annotations

import itertools
import time
import timeit
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from anomaly.service.metrics import Metrics
from anomaly.service.profile import STAGES, Stages
from anomaly.service.run import Process, run
from anomaly.service.scorer import Options, Scorer
from tests.service.rig import Rig


def test_the_time_between_two_calls_is_the_later_ones() -> None:
    """Every stretch of time goes to the stage that ends it, what is skipped to none; the table gives ns and shares."""
    times = iter([0.0, 1.0, 4.0, 9.0, 10.0])
    stages = Stages(lambda: next(times))
    stages("decode")
    stages("score")
    stages.skip()
    stages("decode")
    stages.readings = 1_000_000
    assert {name: spent for name, spent in stages.seconds.items() if spent} == {"decode": 2.0, "score": 3.0}
    lines = {line.split()[0]: line.split()[1:3] for line in stages.table().splitlines()}
    assert (lines["decode"], lines["score"]) == (["2,000", "40.0%"], ["3,000", "60.0%"])
    assert lines["all"][0] == "5,000"


def test_a_scorer_accounts_for_all_of_its_time(rig: Rig) -> None:
    """Every stage takes some, all of them together what the run took, and the metric says the same."""
    metrics, log = Metrics(), rig.log()
    scorer = Scorer(rig.fleet, log, rig.registry, Options(rig.folder / "run", "g", stop_at_end=True), metrics)
    started_s = time.perf_counter()
    scorer.run()
    took_s = time.perf_counter() - started_s
    log.close()
    seconds = metrics.stages.seconds
    assert list(seconds) == list(STAGES)
    assert all(spent > 0 for spent in seconds.values())
    assert 0.5 * took_s < sum(seconds.values()) <= took_s
    assert metrics.stages.readings == 12 * 60
    shown = generate_latest(metrics.registry).decode()
    assert f'anomaly_stage_seconds_total{{stage="features"}} {seconds["features"]}' in shown


@pytest.mark.parametrize("profile", [True, False])
def test_the_table_is_printed_where_it_was_asked_for(
    profile: bool, rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr at the end, and not otherwise."""
    log = rig.log()
    options = Options(tmp_path / "run", "g", stop_at_end=True)
    assert run(rig.fleet, log, Process(rig.registry.folder, options, 0, profile)) == 0
    log.close()
    said = capsys.readouterr()
    assert all((f"\n{stage} " in said.err) == profile for stage in STAGES)
    assert "ns a reading" not in said.out


def test_counting_costs_little(rig: Rig) -> None:
    """Even with batches of 64, looks at the clock take under a hundredth of the time that is not spent waiting."""
    metrics, log, looks = Metrics(), rig.log(), itertools.count()
    metrics.stages = Stages(lambda: next(looks) * 0.0 + time.perf_counter())
    Scorer(rig.fleet, log, rig.registry, Options(rig.folder / "run", "g", stop_at_end=True), metrics).run()
    log.close()
    plain = Stages()
    look_s = min(timeit.repeat(lambda: plain("score"), number=1_000, repeat=20)) / 1_000
    busy_s = sum(metrics.stages.seconds.values()) - metrics.stages.seconds["poll"]
    assert next(looks) * look_s < 0.01 * busy_s
