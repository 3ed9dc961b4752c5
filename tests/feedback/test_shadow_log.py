"""The shadow log: sums that add up, episodes as the engine makes them, and what labels say of either side."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from anomaly.engine.outcome import Kind, Outcome
from anomaly.feedback.history import Past
from anomaly.feedback.outcomes import Moment, Told, outcomes
from anomaly.feedback.shadow_log import alarm_table, compared, day_table, joined, schema, shadow_table, summed
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label
from tests.engine import world

COUNT, VEHICLES = 2_000, 8
TEXT = f'{world.FLEET}lasting_after = 0\n[log]\ndecisions = "all"\n'
FLEET = world.fleet(TEXT)
ARM = world.arm(k=2.5)._replace(shadow=world.arm(digest="m2", k=1.8).model)


def calm(seed: int = 1) -> Batch:
    """Readings in order of time, none of them refused, that alarm now and then."""
    rng = np.random.default_rng(seed)
    who = np.arange(COUNT) % VEHICLES
    values = np.column_stack([rng.normal(size=COUNT), 10 + 2 * rng.normal(size=COUNT), -5 + rng.normal(size=COUNT)])
    table = np.column_stack([values, np.zeros(COUNT)]).astype(np.float32)
    context = {"type": ["t"] * COUNT, "region": ["north" if number % 2 else None for number in who]}
    return Batch.of([f"v{n}" for n in who], 600 * np.arange(COUNT), table, context, np.arange(COUNT))


def decided(batch: Batch) -> Outcome:
    """What an engine with a shadow says of it."""
    return world.engine(ARM, text=TEXT).decide(batch)


def test_episodes_are_those_of_the_engine() -> None:
    """Made from the log's rows and the times of readings, they begin where the engine's episodes began."""
    batch = calm()
    outcome = decided(batch)
    table = alarm_table(
        shadow_table(compared(outcome, batch), [ARM], FLEET, 0), "acting", Past.of(batch), FLEET.alerts.gap
    )
    changes = outcome.episodes
    opened = (changes.kind == Kind.FAULT) & (changes.change == 1)
    began = sorted(
        (batch.vehicles[row], start)
        for row, start in zip(changes.row[opened].tolist(), changes.start[opened].tolist(), strict=True)
    )
    found = table.group_by(["vehicle", "episode"]).aggregate([("ts", "min")])
    made = sorted(zip(found["vehicle"].to_pylist(), found["ts_min"].to_pylist(), strict=True))
    assert len(made) > 20
    assert made == began


@pytest.mark.parametrize("size", [1, 7, 500])
def test_parts_of_any_size_add_up_to_one(size: int) -> None:
    """Rows and sums of small batches, joined or one by one, are those of the whole."""
    batch, engine = calm(), world.engine(ARM, text=TEXT)
    cuts = [(batch.rows(start, min(start + size, COUNT))) for start in range(0, COUNT, size)]
    parts = [compared(engine.decide(part), part) for part in cuts]
    whole = compared(decided(batch), batch)
    assert shadow_table(joined(parts), [ARM], FLEET, 0).equals(shadow_table(whole, [ARM], FLEET, 0))
    days = pa.concat_tables([day_table(part, [ARM], FLEET, 0) for part in parts])
    order = [("vehicle", "ascending"), ("ts", "ascending")]
    once, added = (summed(table).sort_by(order).to_pylist() for table in (day_table(whole, [ARM], FLEET, 0), days))
    assert once == added
    assert sum(row["compared"] for row in once) == COUNT


def test_sums_count_what_the_rows_say() -> None:
    """Where all rows are kept, the day's sums are theirs."""
    batch = calm()
    rows = compared(decided(batch), batch)
    table, days = shadow_table(rows, [ARM], FLEET, 3), day_table(rows, [ARM], FLEET, 3)
    acting, shadow = table["alarm"].to_numpy(), table["shadow_alarm"].to_numpy()
    counted = [sum(days[name].to_pylist()) for name in ("compared", "alarms", "shadow_alarms", "both")]
    assert counted == [COUNT, acting.sum(), shadow.sum(), (acting & shadow).sum()]
    assert set(days["partition"].to_pylist()) == {3}
    assert (days["ts"].to_numpy() % FLEET.ticks_per_day == 0).all()


def test_a_fault_that_the_shadow_alone_alarms_for_is_detected_by_it_alone() -> None:
    """The label is the same, the alarms are not; a false alarm of one side is none of the other."""
    rows = [
        {"vehicle": "v", "ts": ts, "alarm": ts == 30, "shadow_alarm": ts in (60, 70), "level": 1.2, "shadow_level": 1.3}
        for ts in (30, 60, 70)
    ]
    words = {"model": "m/1", "shadow_model": "m/2", "arm": "x/new"}
    table = pa.Table.from_pylist([row | words for row in rows], schema=schema())
    past = Past(["v"], np.zeros(20, np.int64), np.arange(0, 100, 5))
    label = Label(vehicle="v", start=50, end=95, verdict="fault", source="w", reported_at=99)
    found = [
        outcomes(alarm_table(table, side, past, 3), Told(past, [label], []), FLEET, Moment(10**6, 0))
        for side in ("acting", "shadow")
    ]
    assert [one.faults["state"].to_pylist() for one in found] == [["missed"], ["confirmed"]]
    assert [one.faults["lead"].to_pylist() for one in found] == [[0], [35]]
    assert [one.episodes["model"].to_pylist() for one in found] == [["m/1"], ["m/2"]]
    assert found[1].episodes["state"].to_pylist() == ["confirmed"]
