"""Tests of choosing a log."""

from __future__ import annotations

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
    """kafka-python is imported when a broker is asked for, not before."""
    code = "import sys, anomaly.stream.open; sys.exit('kafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
