"""Two scorer processes on a real Kafka decide as one backtest does, whatever moves and whoever is killed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from anomaly.errors import StateError
from anomaly.telemetry.records import Alert
from tests.integration.turbofan import Member, World, differences, make_world, until

pytestmark = [pytest.mark.kafka, pytest.mark.real_data]


@pytest.fixture
def world(tmp_path: Path, kafka: str, real_data: Path) -> World:
    """The test engines of the first turbofan set."""
    return make_world(tmp_path, kafka, real_data / "cmapss" / "train_FD001.parquet")


@pytest.fixture
def members() -> Iterator[list[Member]]:
    """Processes that a test started; none outlives it."""
    started: list[Member] = []
    yield started
    for member in started:
        if member.process.poll() is None:
            member.kill()


def scored(world: World, rows: int) -> bool:
    """Whether decisions for so many readings are in the run's stores and files."""
    try:
        return (world.run / "state").exists() and len(world.decisions()) >= rows
    except StateError:  # a store that is being made at this moment
        return False


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_partitions_move_both_ways_and_the_decisions_equal_the_backtest(
    world: World, members: list[Member], monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """One member, a second that takes half over and leaves again: every decision is the backtest's in each column."""
    monkeypatch.setenv("ANOMALY_KAFKA_CLIENT", client)
    members.append(Member(world, "a"))
    rows = world.produce(0.0, 0.4)
    until(lambda: scored(world, rows), "the first part being scored")
    members.append(Member(world, "b"))
    until(lambda: len(members[1].took()) >= 2, "the second member taking partitions over")
    rows = world.produce(0.4, 0.7)
    until(lambda: scored(world, rows), "the second part being scored by both")
    assert members[1].stop() == 0
    rows = world.produce(0.7, 1.0)
    until(lambda: scored(world, rows), "the rest being scored")
    moved, back = set(members[0].gave()), members[0].took()
    assert members[0].stop() == 0
    assert moved
    assert moved <= {partition for partition in back if back.count(partition) > 1}
    assert differences(world, world.decisions()) == []


def test_five_kills_change_no_decision_and_no_alert(world: World, members: list[Member]) -> None:
    """SIGKILL at five random moments: all decisions once and equal, each alert there, repeats with the same bytes."""
    chance = random.Random(3)
    members += [Member(world, "a"), Member(world, "b")]
    rows = 0
    for part in range(5):
        rows = world.produce(part / 6, (part + 1) / 6)
        least = int(rows * chance.uniform(0.9, 1.0))
        until(lambda least=least: scored(world, least), f"part {part} being scored")
        victim = chance.randrange(2)
        members[victim].kill()
        members[victim] = Member(world, "ab"[victim])
    rows = world.produce(5 / 6, 1.0)
    until(lambda: scored(world, rows), "everything being scored")
    assert [member.stop() for member in members] == [0, 0]
    assert differences(world, world.decisions()) == []
    opened = [alert for alert in map(alert_of, world.messages("alerts")) if alert.state == "open"]
    expected = {episode for episode in world.expected["episode"].to_pylist() if episode}
    assert {alert.id for alert in opened if alert.kind != "lasting_shift"} == expected
    distinct = {alert.id for alert in opened}
    assert len({msgspec.json.encode(alert) for alert in opened}) == len(distinct)
    print(f"{len(opened) - len(distinct)} of {len(opened)} alerts were sent a second time")


def alert_of(value: bytes) -> Alert:
    """A message of the topic of alerts."""
    return msgspec.json.decode(value, type=Alert)
