"""Dead letters, doctor and the refusal to lose state, as their commands see them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from anomaly.errors import StateError
from anomaly.service.dead_letters import read_dead_letters, retry
from anomaly.service.doctor import Check, Place, examine
from anomaly.service.metrics import Metrics
from anomaly.service.scorer import Options, Scorer
from anomaly.service.stored import store_path
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.ports import Record
from anomaly.stream.topics import create_topics
from tests.service.child import score
from tests.service.rig import Rig


def test_dead_letters_are_listed_and_sent_again(rig: Rig) -> None:
    """A retried message goes to the partition it came from, byte for byte; others stay where they are."""
    assert score(rig, rig.folder / "run") == 0
    before = rig.messages("telemetry")
    log = rig.log()
    letters = read_dead_letters(rig.fleet, log)
    chosen = next(letter for letter in letters if letter.topic == "bus.telemetry")
    assert retry(log, letters, lambda letter: letter == chosen) == 1
    log.close()
    new = [message for message in rig.messages("telemetry") if message not in before]
    assert [(partition, value) for partition, _, value in new] == [(chosen.partition, chosen.payload)]


def look(rig: Rig) -> dict[str, Check]:
    """What the doctor finds, by name."""
    place = Place(rig.folder / "fleet.toml", rig.registry.folder, rig.folder / "run", rig.log)
    return {check.name: check for check in examine(place)}


def test_a_doctor_finds_what_is_wrong(rig: Rig) -> None:
    """Missing topics, names that the fleet file lacks and a newer store are named, with what to do."""
    assert score(rig, rig.folder / "run") == 0
    rig.send("telemetry", [Record(b"v1", b'{"vehicle":"v1","ts":1,"signals":{"zzz":1}}')])
    found = look(rig)
    assert [name for name, check in found.items() if not check.ok] == ["topics"]
    assert "anomaly topics create" in found["topics"].detail
    assert "signals.zzz" in found["names"].detail
    log = rig.log()
    create_topics(log, rig.fleet)
    log.close()
    with sqlite3.connect(store_path(rig.folder / "run", "g", "bus.telemetry", 0)) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    found = look(rig)
    assert [name for name, check in found.items() if not check.ok] == ["stores"]
    assert "version 7" in found["stores"].detail


def test_a_doctor_stops_at_a_broken_fleet_file(rig: Rig) -> None:
    """Without a fleet file that can be read, nothing that depends on it is looked at."""
    (rig.folder / "fleet.toml").write_text("[fleet]\nnaem = 1\n")
    found = look(rig)
    assert not found["fleet file"].ok
    assert "model" not in found


class Grouped(EmbeddedLog):
    """A log with a group that was told how far partitions are."""

    def source(self, *arguments: object) -> object:  # type: ignore[override]
        """A source of a group that has read."""
        made = super().source(*arguments)  # type: ignore[arg-type]
        made.committed = lambda partitions: dict.fromkeys(partitions, 7)  # type: ignore[method-assign]
        return made


def test_a_lost_store_is_not_replaced_silently(rig: Rig, tmp_path: Path) -> None:
    """A missing store of a group that has read stops with the way out; --fresh-state is that way."""
    options = Options(tmp_path / "run", "g", stop_at_end=True)
    with pytest.raises(StateError, match=r"read bus.telemetry-0 up to 7: bring the store back, or .*--fresh-state"):
        Scorer(rig.fleet, Grouped(rig.log_path), rig.registry, options, Metrics()).run()
    fresh = options._replace(fresh_state=True)
    Scorer(rig.fleet, Grouped(rig.log_path), rig.registry, fresh, Metrics()).run()
    assert store_path(tmp_path / "run", "g", "bus.telemetry", 0).exists()
