"""Who is in which arm: a keyed hash of the vehicle alone, the same on every host, after every restart, in replays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.experiments.file import BUCKETS, Experiment
from anomaly.secret import read_secret

Eligible = NDArray[np.uint64]
"""The keys of the vehicles that may take part, ascending; see `key`."""


class Keys(NamedTuple):
    """What vehicles are hashed with: for the layer (nothing secret), and for the arm."""

    layer: bytes
    arm: bytes


def bucket(vehicle: str, key: bytes) -> int:
    """The bucket of a vehicle, 0 to 9,999: BLAKE2b keyed with `key` (at most 64 bytes), modulo 10,000."""
    digest = hashlib.blake2b(vehicle.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def key(vehicle: str) -> int:
    """64 bits that stand for a vehicle in a list of those that may take part."""
    return int.from_bytes(hashlib.blake2b(vehicle.encode(), digest_size=8).digest(), "big")


def read_salt(experiment: Experiment, environment: Mapping[str, str] = os.environ) -> bytes:
    """The secret that `salt_ref` points to; the experiment's id where there is none.

    Raises ConfigError if the file or the variable is not there or empty; the secret is never shown.
    """
    if experiment.salt_ref is None:
        return experiment.id.encode()
    return read_secret(experiment.salt_ref, f"experiment {experiment.id}: salt_ref", environment)


def keys(experiment: Experiment, salt: bytes) -> Keys:
    """One key for all experiments of the layer, and one of this revision alone: a new revision draws again."""
    return Keys(
        _derived("layer", experiment.layer.name),
        _derived("arm", experiment.id, str(experiment.revision), secret=salt),
    )


def assign(
    experiment: Experiment, share: float, salt: bytes, eligible: Eligible | None = None
) -> Callable[[str], int | None]:
    """The function from a vehicle to its position in `experiment.arms`; None: it takes no part.

    One hash says whether the vehicle is in the layer's range, a second which arm it would be in, and by its place
    in the arm's contiguous range whether it takes part at `share` of the ramp: ranges grow from their lower end, so
    that a larger share moves nobody from one arm to another. `eligible`: only those take part (None: all).
    """
    layer, own = keys(experiment, salt)
    low, high = experiment.layer.range
    table = [None if arm < 0 else arm for arm in arm_of_bucket(experiment, share).tolist()]

    def position(vehicle: str) -> int | None:
        if not low <= bucket(vehicle, layer) < high:
            return None
        if eligible is not None and not _has(eligible, key(vehicle)):
            return None
        return table[bucket(vehicle, own)]

    return position


def buckets(keys: Keys, vehicles: Sequence[str]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """The buckets of vehicles in the layer and in the arms' ranges, each int16[n]."""
    layer = np.fromiter((bucket(vehicle, keys.layer) for vehicle in vehicles), np.int16, len(vehicles))
    return layer, np.fromiter((bucket(vehicle, keys.arm) for vehicle in vehicles), np.int16, len(vehicles))


def arms_of(experiment: Experiment, share: float, layer: NDArray[np.int16], own: NDArray[np.int16]) -> NDArray[np.int8]:
    """What `assign` says of eligible vehicles with these buckets: the position of their arm, -1 for none."""
    low, high = experiment.layer.range
    return np.where((layer >= low) & (layer < high), arm_of_bucket(experiment, share)[own], np.int8(-1))


def propensities(experiment: Experiment, share: float) -> list[float]:
    """The share of all (eligible) vehicles that is in each arm, exactly as `assign` gives it out."""
    low, high = experiment.layer.range
    table = arm_of_bucket(experiment, share)
    return [(high - low) / BUCKETS * int((table == arm).sum()) / BUCKETS for arm in range(len(experiment.arms))]


def arm_of_bucket(experiment: Experiment, share: float) -> NDArray[np.int8]:
    """The position of the arm for each bucket, -1 for none: int8[10,000]. The holdout has the last buckets."""
    table = np.full(BUCKETS, -1, np.int8)
    taken = BUCKETS * (1.0 - experiment.holdout_share)
    total = 0.0
    for position, arm in enumerate(experiment.arms):
        start, end = round(total * taken), round((total + arm.share) * taken)
        table[start : start + round((end - start) * share)] = position
        total += arm.share
    return table


def _has(eligible: Eligible, wanted: int) -> bool:
    place = int(np.searchsorted(eligible, np.uint64(wanted)))
    return place < len(eligible) and int(eligible[place]) == wanted


def _derived(*parts: str, secret: bytes = b"") -> bytes:
    """A key for one purpose out of the secret: BLAKE2b of the parts, each with its length, keyed with the secret."""
    material = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    hashed_secret = hashlib.blake2b(secret, digest_size=32).digest()
    return hashlib.blake2b(material, digest_size=32, key=hashed_secret).digest()
