"""Durations as a person writes them."""

from __future__ import annotations

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(text: str) -> int:
    """Milliseconds of a duration such as "90s", "1h" or "7d"; ValueError otherwise.

    >>> duration_ms("1h")
    3600000
    """
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(digits) :]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12) or unit not in _UNITS_MS:
        raise ValueError(f"`{text}` is no duration; write a number and one of {', '.join(_UNITS_MS)}, as in `7d`")
    return int(digits) * _UNITS_MS[unit]
