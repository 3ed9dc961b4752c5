"""Times as a person types them."""

from __future__ import annotations

from anomaly.errors import UsageError
from anomaly.fleet import TimeUnit


def parse_time(text: str, unit: TimeUnit, option: str, instead: str) -> int:
    """Ticks of `unit` for a time such as 2026-01-31T12:00, in UTC.

    Raises UsageError if it is none, or the fleet has no clock; `instead` is what else `option` takes.
    """
    import numpy as np

    try:
        moment = np.datetime64(text.strip().removesuffix("UTC").strip().removesuffix("Z"), "ms")
    except ValueError as error:
        raise UsageError(f"{option} {text} is no time such as 2026-01-31T12:00, and no {instead}") from error
    if unit == "cycles":
        raise UsageError(f"{option} with a time needs a fleet with a clock; this one counts cycles: give {instead}")
    return int(moment.astype(np.int64)) // (1 if unit == "ms" else 1_000)
