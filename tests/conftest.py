"""Where the tests find a real Kafka and real data, and what a skip of theirs means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.kafka.broker import Broker, shared, unavailable

ROOT = Path(__file__).resolve().parents[1]


def missing(what: str, variable: str) -> None:
    """Skip with the reason, unless `variable` demands that it is there."""
    if os.environ.get(variable) == "1":
        pytest.fail(f"{what}, and {variable}=1 demands it")
    pytest.skip(what)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that a test runs in its own process says where logs go, and that is gone for the next test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: `ANOMALY_TEST_DATA`, else `shared/data` beside the project."""
    folder = Path(os.environ.get("ANOMALY_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        missing(f"no real data at {folder}; ANOMALY_TEST_DATA names another folder", "ANOMALY_REQUIRE_DATA")
    return folder


@pytest.fixture(scope="session")
def kafka(kafka_broker: Broker) -> str:
    """The bootstrap address of a real Kafka: `ANOMALY_TEST_KAFKA`, else a broker that all test workers share."""
    return kafka_broker.bootstrap


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The same with the listener that wants a login; of a broker that was named, only the address is known."""
    if address := os.environ.get("ANOMALY_TEST_KAFKA"):
        yield Broker(address, "", "")
        return
    if reason := unavailable():
        missing(reason, "ANOMALY_REQUIRE_KAFKA")
    base = tmp_path_factory.getbasetemp()
    with shared((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kafka") as running:
        yield running
