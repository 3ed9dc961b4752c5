"""Arrays that cost memory only where they are touched: address space is reserved once, nothing is copied to grow."""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from anomaly.errors import ConfigError

_MUCH = 16 * 1024 * 1024
"""Bytes from which on pages of 2 MB are asked for: of less, too much would be taken that is never used."""
_NORESERVE = {"linux": 0x4000, "darwin": 0x40}.get(sys.platform, 0)


def reserved(rows: int, columns: int, dtype: DTypeLike) -> NDArray[Any]:
    """Zeros [rows, columns]; a page of it is taken from the machine when something is written there.

    Raises ConfigError where not even the address space can be had.
    """
    size = max(rows * columns * np.dtype(dtype).itemsize, 1)
    try:
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
    except OSError as error:
        raise ConfigError(
            f"{size / 1e9:.1f} GB of address space cannot be reserved for {rows:,} vehicles ({error.strerror}); lower "
            "[state] capacity, or lift the limit on virtual memory"
        ) from error
    if size >= _MUCH and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a machine without pages of 2 MB gives small ones
            block.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(block, dtype, rows * columns).reshape(rows, columns)
