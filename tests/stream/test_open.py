"""Tests of choosing a log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly.errors import UsageError
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.files import FileLog
from anomaly.stream.open import open_log


def test_the_path_says_which_log(tmp_path: Path) -> None:
    """A folder or a .jsonl file is a log of files, any other path an embedded log."""
    assert isinstance(open_log(None, tmp_path), FileLog)
    assert isinstance(open_log(None, tmp_path / "x.jsonl"), FileLog)
    assert isinstance(open_log(None, tmp_path / "fleet.db"), EmbeddedLog)


def test_neither_and_both_are_refused(tmp_path: Path) -> None:
    """Without a place, or with two, the message says what to give."""
    with pytest.raises(UsageError, match=r"--bootstrap-server HOST:PORT, or --log FILE"):
        open_log(None, None)
    with pytest.raises(UsageError, match="--log is a log of its own"):
        open_log("127.0.0.1:9092", tmp_path / "fleet.db")
    with pytest.raises(UsageError, match="`nonsense` is no HOST:PORT"):
        open_log("nonsense", None)


def test_no_kafka_is_loaded_for_an_embedded_log() -> None:
    """A client is imported when a broker is asked for, not before."""
    code = "import sys, anomaly.stream.open; sys.exit(bool({'kafka', 'confluent_kafka'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.kafka
def test_librdkafka_is_taken_where_it_is_installed(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is to be known; ANOMALY_KAFKA_CLIENT forces one of the two, and anything else is refused."""
    found = {}
    for name in ("", "kafka-python", "librdkafka"):
        monkeypatch.setenv("ANOMALY_KAFKA_CLIENT", name)
        log = open_log(kafka, None)
        found[name] = type(log).__name__
        log.close()
    assert found == {"": "RdKafkaLog", "kafka-python": "KafkaLog", "librdkafka": "RdKafkaLog"}
    monkeypatch.setenv("ANOMALY_KAFKA_CLIENT", "rdkafka")
    with pytest.raises(UsageError, match="`rdkafka` is neither kafka-python nor librdkafka"):
        open_log(kafka, None)


def test_without_librdkafka_kafka_python_is_taken(tmp_path: Path) -> None:
    """Where it is not installed, the other client is chosen, and asking for it names the command that brings it."""
    code = (
        "import sys, os; sys.modules['confluent_kafka'] = None; import importlib.util as u; "
        "u.find_spec = lambda name: None; from anomaly.stream.open import _kafka_client as chosen; print(chosen()); "
        "os.environ['ANOMALY_KAFKA_CLIENT'] = 'librdkafka'; chosen()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ANOMALY_KAFKA_CLIENT"}
    ran = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert ran.stdout.strip() == "kafka-python"
    assert "pip install 'fleet-anomaly[fast]'" in ran.stderr
