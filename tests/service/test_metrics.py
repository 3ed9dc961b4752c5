"""The listener on loopback."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from anomaly.errors import ConfigError
from anomaly.service.metrics import STALLED_S, UNKNOWN_NAMES, Listener, Metrics


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body of an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_and_health_are_served() -> None:
    """/metrics has the metrics; /healthz turns from 200 to 503 when the loop stands still."""
    now = [0.0]
    metrics = Metrics()
    metrics.readings.inc(5)
    listener = Listener(0, metrics, lambda: now[0])
    try:
        assert "anomaly_readings_total 5.0" in get(listener.port, "/metrics")[1]
        assert get(listener.port, "/healthz") == (200, "ok\n")
        now[0] = STALLED_S + 1
        assert get(listener.port, "/healthz")[0] == 503
        listener.turn()
        assert get(listener.port, "/healthz")[0] == 200
        assert get(listener.port, "/other")[0] == 404
    finally:
        listener.close()


def test_a_taken_port_is_said() -> None:
    """A port that somebody else has is refused by its number."""
    first = Listener(0, Metrics())
    try:
        with pytest.raises(ConfigError, match=f"--metrics-port {first.port}"):
            Listener(first.port, Metrics())
    finally:
        first.close()


def test_unknown_names_are_bounded() -> None:
    """A stream that invents names makes no more than so many labels."""
    metrics = Metrics()
    for number in range(3 * UNKNOWN_NAMES):
        metrics.count_unknown(f"name{number}", 1)
    samples = [s for f in metrics.registry.collect() for s in f.samples if s.name == "anomaly_unknown_names_total"]
    assert len(samples) == UNKNOWN_NAMES + 1
    assert sum(sample.value for sample in samples) == 3 * UNKNOWN_NAMES
