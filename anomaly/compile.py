"""The one place that meets numba: kernels are compiled here, cached where that is possible."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile `function` without reference counts (twice as fast; so it may not allocate) and without fastmath.

    `function.py_func` stays the plain Python oracle with the same bits. Where no cache folder can be written the
    kernel is compiled in memory, with a warning.
    """
    options = {"error_model": "numpy", "_nrt": False}
    try:
        compiled = njit(cache=True, **options)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        warnings.warn(f"kernels are compiled anew at every start: {error}; set NUMBA_CACHE_DIR", stacklevel=2)
        compiled = njit(**options)(function)
    return cast(F, compiled)
