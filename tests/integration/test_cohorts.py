"""Cohorts over two scorer processes on a real Kafka: who counts where, and who is killed, changes no decision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from anomaly import settings
from anomaly.cli.config import to_toml
from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm
from anomaly.errors import StateError
from anomaly.feedback.decisions import decision_table
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.cohort_periods import Message
from anomaly.stream.kafka import KafkaLog
from anomaly.stream.topics import create_topics
from tests.integration.turbofan import Member, World, comparable, differences, until
from tests.service.cohort_rig import TEXT, publish_with_cohorts, warm_days

pytestmark = pytest.mark.kafka


@pytest.fixture
def world(tmp_path: Path, kafka: str) -> World:
    """Two cohorts over four partitions, and what one engine alone decides."""
    fleet = settings.parse(TEXT.replace("partitions = 2", "partitions = 4"), Fleet, "fleet.toml")
    stream = msgspec.structs.replace(
        fleet.stream, prefix=f"cohorts-{tmp_path.name}", checkpoint_every_s=0.2, checkpoint_every_readings=1_000_000
    )
    fleet = msgspec.structs.replace(fleet, stream=stream)
    (tmp_path / "fleet.toml").write_text(to_toml(fleet))
    registry = Registry(tmp_path / "models")
    publish_with_cohorts(registry)
    loaded = registry.load(registry.resolve("bus@champion"))
    engine, batch = Engine(fleet, Frame.from_json(loaded.frame)), warm_days()
    arms = [Arm("champion", 1.0, loaded.engine_model())]
    engine.use(arms, lambda _vehicle: 0)
    expected = comparable(decision_table(engine.decide(batch), batch, arms, fleet, None))
    log = KafkaLog(kafka, {})
    create_topics(log, fleet)
    log.close()
    return World(tmp_path, kafka, fleet, batch, expected)


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


def test_two_processes_decide_as_one_engine_over_moves_and_a_kill(world: World, members: list[Member]) -> None:
    """One member, then two, one of them killed and started again: each decision is the one engine's in all columns."""
    members.append(Member(world, "a"))
    rows = world.produce(0.0, 0.3)
    until(lambda: scored(world, int(0.9 * rows)), "the first part being scored by one")
    members.append(Member(world, "b"))
    until(lambda: len(members[1].took()) >= 2, "the second member taking partitions over")
    rows = world.produce(0.3, 0.6)
    until(lambda: scored(world, int(0.9 * rows)), "the second part being scored by both")
    members[0].kill()
    rows = world.produce(0.6, 0.9)
    members[0] = Member(world, "a")
    until(lambda: scored(world, int(0.9 * rows)), "the third part being scored after the kill")
    rows = world.produce(0.9, 1.0)
    until(lambda: scored(world, rows), "everything being scored")
    assert [member.stop() for member in members] == [0, 0]
    assert differences(world, world.decisions()) == []
    told = [msgspec.json.decode(value, type=Message) for value in world.messages("cohorts")]
    assert {message.partition for message in told} == {0, 1, 2, 3}
