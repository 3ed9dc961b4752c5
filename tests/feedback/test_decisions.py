"""The decision log: all columns, and what of it is kept."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.engine.outcome import Kind, Outcome
from anomaly.feedback.decisions import decision_table, joined, keep, kept, schema
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import alert_id
from tests.engine.world import FLEET, arm, engine, fleet, stream

ALL = '[log]\ndecisions = "all"\n'


def decided(seed: int = 1, count: int = 400) -> tuple[Outcome, Batch]:
    """A stream with everything in it, decided by the real engine."""
    batch = stream(seed, count)
    return engine().decide(batch), batch


def long_alarm(count: int, step: int) -> tuple[Outcome, Batch]:
    """One vehicle that alarms at each of its readings, `step` seconds apart."""
    outcome, _ = decided(1, count)
    n = np.arange(count)
    batch = Batch.of(["v"] * count, n * step, np.zeros((count, 4), np.float32), {}, n)
    zeros = np.zeros(count, np.int64)
    changed = outcome.decisions._replace(
        row=n, kind=np.full(count, Kind.FAULT, np.uint8), episode_start=zeros, episode_count=n + 1
    )
    return outcome._replace(decisions=changed), batch


def test_a_table_holds_every_decision_with_the_documented_columns() -> None:
    """One row a decision, in arrival order, with the values of the engine."""
    outcome, batch = decided()
    table = decision_table(outcome, batch, [arm()], fleet(), 3)
    assert table.schema == schema()
    table.validate(full=True)
    assert table["ts"].to_pylist() == batch.ts[outcome.decisions.row].tolist()
    assert table["vehicle"].to_pylist() == [batch.vehicles[row] for row in outcome.decisions.row]
    assert table["offset"].to_pylist() == batch.offsets[outcome.decisions.row].tolist()
    assert set(table["partition"].to_pylist()) == {3}
    assert set(table["model"].to_pylist()) == {"test/1"}
    assert table["kind"].to_pylist() == [Kind(kind).label for kind in outcome.decisions.kind]


def test_alarm_rows_carry_episode_and_signals_and_others_do_not() -> None:
    """The episode is the alert's id, the signals are the three largest shares in order."""
    outcome, batch = decided()
    table = decision_table(outcome, batch, [arm()], fleet(), None).to_pylist()
    for row, place in enumerate(outcome.decisions.row):
        kind = Kind(outcome.decisions.kind[row])
        if kind == Kind.NONE:
            assert (table[row]["episode"], table[row]["top_signals"]) == (None, [])
            continue
        start = int(outcome.decisions.episode_start[row])
        assert table[row]["episode"] == alert_id({"vehicle": batch.vehicles[place]}, kind.label, start)
        shares = outcome.evidence.share[np.searchsorted(outcome.evidence.row, place)]
        named = [signal["share"] for signal in table[row]["top_signals"]]
        assert named == sorted((float(share) for share in shares if share > 0), reverse=True)[:3]
    assert {row["kind"] for row in table} == {"", "fault", "sensor"}


def test_rows_of_fewer_than_three_signals_are_joined() -> None:
    """With one signal, batches with and without an alarm make one table: shares are as many as there are signals."""
    outcome, batch = decided()
    one = outcome._replace(evidence=outcome.evidence._replace(share=outcome.evidence.share[:, :1]))
    quiet = np.flatnonzero(outcome.decisions.kind == 0)
    both = joined([kept(one, batch), kept(one, batch, quiet)])
    assert both.signals.shape == both.share.shape == (len(both.wrong), 1)


def test_without_a_partition_there_is_no_offset() -> None:
    """A backtest has neither."""
    outcome, batch = decided()
    table = decision_table(outcome, batch, [arm()], fleet(), None)
    assert table["partition"].null_count == table["offset"].null_count == len(table)


def test_two_arms_of_one_model_are_told_apart() -> None:
    """Model names may repeat; the arm, its propensity and its model stay those of the vehicle."""
    batch = stream(1, 200)
    arms = [arm()._replace(name="control", propensity=0.9), arm()._replace(name="new", propensity=0.1)]
    outcome = engine(*arms).decide(batch)
    table = decision_table(outcome, batch, arms, fleet(), 0)
    expected = [arms[position] for position in outcome.decisions.arm]
    assert table["arm"].to_pylist() == [each.name for each in expected]
    assert table["arm_propensity"].to_pylist() == [each.propensity for each in expected]
    assert set(table["model"].to_pylist()) == {"test/1"}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 500), cuts=st.lists(st.integers(1, 399), max_size=6))
def test_the_log_does_not_depend_on_the_cut_into_batches(seed: int, cuts: list[int]) -> None:
    """The same rows are kept, with the same values, whole and in parts."""
    batch, running = stream(seed, 400), engine()
    parts = []
    for start, stop in pairwise(sorted({0, 400, *cuts})):
        part = batch.rows(start, stop)
        outcome = running.decide(part)
        parts.append(decision_table(outcome, part, [arm()], fleet(), 0, keep(outcome, part, fleet())))
    outcome = engine().decide(batch)
    whole = decision_table(outcome, batch, [arm()], fleet(), 0, keep(outcome, batch, fleet()))
    assert pa.concat_tables(parts).to_pylist() == whole.to_pylist()


def test_alarms_are_kept_always_and_the_rest_is_sampled() -> None:
    """Every row with a kind is there, of the others about the share that the fleet file says."""
    outcome, batch = decided(2, 20_000)
    kept = keep(outcome, batch, fleet(FLEET + "[log]\nsample = 0.05\naudit = 0.0\n"))
    wrong = np.flatnonzero((outcome.decisions.kind > 0) & (outcome.decisions.episode_count <= 100))
    assert set(wrong) <= set(kept)
    quiet = outcome.decisions.kind == 0
    assert quiet[kept].sum() / quiet.sum() == pytest.approx(0.05, abs=0.01)


def test_all_keeps_all() -> None:
    """`decisions = "all"` leaves nothing out."""
    outcome, batch = decided()
    assert len(keep(outcome, batch, fleet(FLEET + ALL))) == len(outcome.decisions.row)


def test_an_audited_vehicle_day_is_kept_whole() -> None:
    """All rows of a vehicle's day share one draw, flagged and with its propensity."""
    outcome, batch = decided(3, 3_000)
    batch = Batch(batch.vehicles, batch.ts * 100, batch.values, batch.context, batch.offsets)
    log = fleet(FLEET + "[log]\nsample = 0.0\naudit = 0.3\n")
    table = decision_table(outcome, batch, [arm()], log, 0)
    days: dict[tuple[str, int], set[bool]] = {}
    for row in table.select(["vehicle", "ts", "audit"]).to_pylist():
        days.setdefault((row["vehicle"], row["ts"] // 86_400), set()).add(row["audit"])
    assert {len(flags) for flags in days.values()} == {1}
    assert {True} in days.values()
    assert {False} in days.values()
    audited = np.flatnonzero(table["audit"].to_numpy())
    assert set(audited) <= set(keep(outcome, batch, log))
    assert set(table["audit_propensity"].to_pylist()) == {0.3}


@pytest.mark.parametrize("step", [1, 5, 60, 600])
def test_a_long_alarm_is_thinned_to_one_a_minute(step: int) -> None:
    """The first 100 rows are there, then about one a minute whatever the pace, and all of a slower one."""
    outcome, batch = long_alarm(20_000, step)
    kept = keep(outcome, batch, fleet(FLEET + "[log]\nsample = 0.0\naudit = 0.0\n"))
    assert kept[:100].tolist() == list(range(100))
    expected = (20_000 - 100) * min(1.0, step / 60)
    assert len(kept) - 100 == pytest.approx(expected, abs=5 * expected**0.5 * (step < 60))


def test_every_column_is_documented_and_no_other() -> None:
    """The reference lists the columns of the log in their order."""
    reference = Path(__file__).resolve().parents[2] / "docs" / "reference" / "decisions.md"
    table = reference.read_text(encoding="utf-8").split("## Decisions")[1].split("## Alerts")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == schema().names


def test_in_cycles_a_long_alarm_is_thinned_to_every_tenth() -> None:
    """There is no minute in cycles."""
    outcome, batch = long_alarm(400, 1)
    cycles = FLEET.replace('"s"', '"cycles"').replace('cohort = ["type"]', "")
    kept = keep(outcome, batch, fleet(cycles + "[log]\nsample = 0.0\naudit = 0.0\n"))
    assert kept.tolist() == [*range(100), *range(109, 400, 10)]
