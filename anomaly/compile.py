"""The one place that meets numba: kernels are compiled here, cached where that is possible."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import FunctionCache

F = TypeVar("F", bound=Callable[..., object])


class _Cache(FunctionCache):  # type: ignore[misc]  # numba has no types
    """Numba's cache on disk, but a disk that cannot be read or written only costs the time to compile."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except OSError as error:
            _warn(str(error))
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn(str(error))


def kernel(function: F) -> F:
    """Compile `function` without reference counts (twice as fast; so it may not allocate) and without fastmath.

    `function.py_func` stays the plain Python oracle with the same bits. Where no cache folder can be written the
    kernel is compiled in memory, with a warning.
    """
    compiled = njit(error_model="numpy", _nrt=False)(function)
    try:
        compiled._cache = _Cache(function)  # noqa: SLF001  # as njit(cache=True) does, with a cache that may fail
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        _warn("no folder for them can be written")
    return cast(F, compiled)


def cache_folder(compiled: Callable[..., object]) -> Path | None:
    """Where a kernel is cached on this machine; None if nowhere."""
    path = cast(Any, compiled).stats.cache_path
    return Path(path) if path else None


@cache
def _warn(reason: str) -> None:
    """Say it once a process; the filter of `warnings` forgets while numba compiles."""
    warnings.warn(
        f"kernels are compiled anew at every start, some seconds: {reason}; set NUMBA_CACHE_DIR to a folder that can "
        "be written",
        stacklevel=2,
    )
