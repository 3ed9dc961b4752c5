"""Who is sampled: hashes of vehicle and time, so that a replay samples the same readings and needs no state."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.fleet import Fleet
from anomaly.secret import read_secret
from anomaly.telemetry.text import uniform

SAMPLE, AUDIT, LONG_ALARM = 1, 2, 3
"""What the draw is for: draws for different purposes are independent."""


def drawn(
    hashes: NDArray[np.uint64], when: NDArray[np.int64], share: float | NDArray[np.float64], purpose: int
) -> NDArray[np.bool_]:
    """Whether each of n (vehicle, time) pairs is in a sample of `share`, bool[n].

    `hashes` are the CRC-32 of the vehicles' ids, uint64[n]. A pair is in if its uniform number is below `share`.
    """
    return np.asarray(uniform(hashes, when, purpose) < share)


class Key(NamedTuple):
    """What is mixed into vehicle and day, 64 bits each."""

    vehicle: np.uint64
    day: np.int64


def audit_key(fleet: Fleet) -> Key:
    """The key of the fleet's audit, zeros where `[log] audit_key` is not set. ConfigError if it cannot be read."""
    return _key(fleet.log.audit_key)


@cache
def _key(reference: str | None) -> Key:
    if reference is None:
        return Key(np.uint64(0), np.int64(0))
    secret = hashlib.blake2b(read_secret(reference, "[log] audit_key"), digest_size=32).digest()
    mixed = hashlib.blake2b(b"audit", digest_size=16, key=secret).digest()
    return Key(np.frombuffer(mixed, "<u8")[0], np.frombuffer(mixed, "<i8")[1])


def audited(fleet: Fleet, hashes: NDArray[np.uint64], ts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the audit drew the vehicle-day of each of n readings, bool[n], by vehicles (see `drawn`) and times."""
    key = audit_key(fleet)
    return drawn(hashes ^ key.vehicle, (ts // fleet.ticks_per_day) ^ key.day, fleet.log.audit, AUDIT)
