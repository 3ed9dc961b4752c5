"""`anomaly warmup`."""

from __future__ import annotations

import sys
import time


def warmup() -> None:
    """Compile the kernels and keep them in the cache folder, so that a scorer starts at once."""
    print("compiling; the first time takes some seconds ...", file=sys.stderr)
    started_s = time.monotonic()
    from anomaly.engine.warm import warm

    warm()
    print(f"kernels ready after {time.monotonic() - started_s:.1f} s")
