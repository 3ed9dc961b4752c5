"""Who is audited can be foretold by nobody who does not hold the key, and is the same for everybody who does."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from anomaly.errors import ConfigError
from anomaly.feedback.sampling import AUDIT, audited, drawn
from anomaly.fleet import Fleet
from anomaly.telemetry.text import Text

DAY = 86_400
HASHES = Text.of([f"v{number:05d}" for number in range(20_000)]).crc32()
TS = np.arange(20_000) % 50 * DAY + 7


def fleet(key: str | None) -> Fleet:
    """A fleet of which a tenth of all vehicle-days is audited."""
    table = {"name": "bus", "vehicle": "v", "time": "t", "time_unit": "s"}
    log = {"audit": 0.1} | ({"audit_key": key} if key else {})
    return msgspec.convert({"fleet": table, "signals": {"a": {"unit": "V"}}, "log": log}, Fleet)


def test_a_key_draws_other_days_and_as_many(tmp_path: Path) -> None:
    """Two keys and no key draw independently, each its share; the same secret draws the same, wherever it is kept."""
    for name, secret in (("one", "a secret\n"), ("again", "a secret"), ("other", "another")):
        (tmp_path / name).write_text(secret, encoding="utf-8")
    keys = [None, *(f"file:{tmp_path / name}" for name in ("one", "again", "other"))]
    plain, one, again, other = (audited(fleet(key), HASHES, TS) for key in keys)
    assert np.array_equal(one, again)
    for drew in (plain, one, other):
        assert abs(drew.mean() - 0.1) < 0.01
    for first, second in ((plain, one), (plain, other), (one, other)):
        assert abs((first & second).mean() - 0.01) < 0.004


def test_without_a_key_it_is_the_plain_hash() -> None:
    """A run that has no key draws what it always did."""
    assert np.array_equal(audited(fleet(None), HASHES, TS), drawn(HASHES, TS // DAY, 0.1, AUDIT))


def test_a_day_is_drawn_as_a_whole(tmp_path: Path) -> None:
    """All readings of a vehicle on one day are drawn, or none."""
    (tmp_path / "key").write_text("k", encoding="utf-8")
    keyed = fleet(f"file:{tmp_path / 'key'}")
    assert np.array_equal(audited(keyed, HASHES, TS), audited(keyed, HASHES, TS + 70_000))


def test_a_secret_that_is_not_there_is_said_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file and an empty variable are named; a secret in the fleet file itself is refused."""
    with pytest.raises(ConfigError, match=r"\[log\] audit_key file:/no/such: No such file"):
        audited(fleet("file:/no/such"), HASHES, TS)
    monkeypatch.setenv("AUDIT_SECRET", "")
    with pytest.raises(ConfigError, match="env:AUDIT_SECRET is empty or not set"):
        audited(fleet("env:AUDIT_SECRET"), HASHES, TS)
    with pytest.raises(msgspec.ValidationError, match="audit_key"):
        fleet("my secret")
