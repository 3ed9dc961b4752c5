"""Who is in which arm: a keyed hash of the vehicle alone, the same on every host, after every restart, in replays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from anomaly.errors import ConfigError
from anomaly.experiments.file import BUCKETS, Experiment


def bucket(vehicle: str, salt: bytes) -> int:
    """The bucket of a vehicle, 0 to 9,999: BLAKE2b keyed with `salt` (at most 64 bytes), modulo 10,000."""
    digest = hashlib.blake2b(vehicle.encode(), digest_size=8, key=salt).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def read_salt(experiment: Experiment, environment: Mapping[str, str] = os.environ) -> bytes:
    """The secret that `salt_ref` points to; the experiment's id where there is none.

    Raises ConfigError if the file or the variable is not there or empty; the secret is never shown.
    """
    if experiment.salt_ref is None:
        return experiment.id.encode()
    kind, _, name = experiment.salt_ref.partition(":")
    try:
        secret = Path(name).read_bytes().strip() if kind == "file" else environment.get(name, "").encode()
    except OSError as error:
        raise ConfigError(f"experiment {experiment.id}: salt_ref {experiment.salt_ref}: {error.strerror}") from error
    if not secret:
        raise ConfigError(f"experiment {experiment.id}: salt_ref {experiment.salt_ref} is empty or not set")
    return secret


def assign(experiment: Experiment, share: float, salt: bytes) -> Callable[[str], int | None]:
    """The function from a vehicle to its position in `experiment.arms`; None: it takes no part.

    One hash says whether the vehicle is in the layer's range, a second which arm it would be in, and by its place
    in the arm's contiguous range whether it takes part at `share` of the ramp: ranges grow from their lower end, so
    that a larger share moves nobody from one arm to another. A new revision draws again.
    """
    layer = _key("layer", experiment.layer.name)
    own = _key("arm", experiment.id, str(experiment.revision), secret=salt)
    low, high = experiment.layer.range
    table = _arm_of_bucket(experiment, share)

    def position(vehicle: str) -> int | None:
        if not low <= bucket(vehicle, layer) < high:
            return None
        return table[bucket(vehicle, own)]

    return position


def propensities(experiment: Experiment, share: float) -> list[float]:
    """The share of all vehicles that is in each arm, exactly as `assign` gives it out."""
    low, high = experiment.layer.range
    table = _arm_of_bucket(experiment, share)
    return [(high - low) / BUCKETS * table.count(arm) / BUCKETS for arm in range(len(experiment.arms))]


def _arm_of_bucket(experiment: Experiment, share: float) -> list[int | None]:
    table: list[int | None] = [None] * BUCKETS
    total = 0.0
    for position, arm in enumerate(experiment.arms):
        start, end = round(total * BUCKETS), round((total + arm.share) * BUCKETS)
        taking_part = round((end - start) * share)
        table[start : start + taking_part] = [position] * taking_part
        total += arm.share
    return table


def _key(*parts: str, secret: bytes = b"") -> bytes:
    """A key for one purpose out of the secret: BLAKE2b of the parts, each with its length, keyed with the secret."""
    material = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    hashed_secret = hashlib.blake2b(secret, digest_size=32).digest()
    return hashlib.blake2b(material, digest_size=32, key=hashed_secret).digest()
