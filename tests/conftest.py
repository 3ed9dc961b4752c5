"""Where the tests find a real Kafka and real data, and what a skip of theirs means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def missing(what: str, variable: str) -> None:
    """Skip with the reason, unless `variable` demands that it is there."""
    if os.environ.get(variable) == "1":
        pytest.fail(f"{what}, and {variable}=1 demands it")
    pytest.skip(what)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: `ANOMALY_TEST_DATA`, else `shared/data` beside the project."""
    folder = Path(os.environ.get("ANOMALY_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        missing(f"no real data at {folder}; ANOMALY_TEST_DATA names another folder", "ANOMALY_REQUIRE_DATA")
    return folder
