"""One loop at a time on a run: passes that a clock begins may last longer than its interval."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anomaly.errors import ConfigError


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold `folder`/loop.lock, to the end of the process however it ends. Raises ConfigError, with the other process's
    id, if somebody else holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "loop.lock"
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(file, 32).decode("ascii", "replace").strip() or "unknown"
            raise ConfigError(
                f"process {holder} already runs the loop of {folder.parent}; wait for it or end it"
            ) from error
        os.truncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)
