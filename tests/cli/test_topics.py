"""Tests of `anomaly topics`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anomaly.cli.topics import check, create
from anomaly.errors import PeerError

FLEET = """
[fleet]
name = "vans"
vehicle = "unit"
time = "time"
time_unit = "s"
[signals.coolant]
[stream]
partitions = 3
retention = "2d"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A fleet file."""
    file = tmp_path / "fleet.toml"
    file.write_text(FLEET)
    return file


def test_all_topics_are_made_and_said(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """create states partitions and retention of each, from the fleet file; again, it changes nothing."""
    log = tmp_path / "fleet.db"
    create(config, None, log, None, False)
    said = capsys.readouterr().out
    assert "vans.telemetry: created, 3 partitions, kept for 2 days" in said
    assert "vans.labels: created, 1 partition, kept for ever" in said
    assert "vans.cohorts: created, 1 partition, the last message of each key kept" in said
    assert len(said.splitlines()) == 7
    create(config, None, log, None, False)
    assert "created" not in capsys.readouterr().out


def test_check_names_what_is_missing(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """check answers what is there as JSON, and with one topic missing exits 4 naming it and the command."""
    log = tmp_path / "fleet.db"
    with pytest.raises(PeerError, match="there is no log"):
        check(config, None, log, None, True)
    assert not log.exists()
    create(config, None, log, None, False)
    capsys.readouterr()
    check(config, None, log, None, True)
    rows = json.loads(capsys.readouterr().out)
    assert {row["topic"]: row["partitions"] for row in rows}["vans.telemetry"] == 3
    config.write_text(FLEET.replace('"vans"', '"cars"'))
    with pytest.raises(PeerError, match=r"missing: cars\.telemetry, .*`anomaly topics create`") as refused:
        check(config, None, log, None, False)
    assert refused.value.exit_code == 4


def test_another_number_of_partitions_is_said(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A topic that differs from the fleet file stays as it is, and the difference is shown."""
    log = tmp_path / "fleet.db"
    create(config, None, log, None, False)
    config.write_text(FLEET.replace("partitions = 3", "partitions = 8"))
    capsys.readouterr()
    check(config, None, log, None, False)
    assert "vans.telemetry: 3 partitions (the fleet file asks for 8)" in capsys.readouterr().out
    config.write_text(FLEET.replace('"2d"', '"5d"'))
    check(config, None, log, None, False)
    said = capsys.readouterr().out
    assert "vans.telemetry: 3 partitions, 0 messages, kept for 2 days (the fleet file says for 5 days)" in said
    assert "vans.cohorts: 1 partition, 0 messages, kept for ever\n" in said


@pytest.mark.kafka
def test_topics_on_kafka(config: Path, kafka: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same on a real broker, which a client.properties may name."""
    config.write_text(FLEET.replace('"vans"', '"vans-on-kafka"'))
    properties = config.with_name("client.properties")
    properties.write_text(f"bootstrap.servers={kafka}\n")
    create(config, None, None, properties, False)
    check(config, kafka, None, None, False)
    assert "vans-on-kafka.telemetry: 3 partitions, 0 messages" in capsys.readouterr().out
