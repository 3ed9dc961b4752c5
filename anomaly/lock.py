"""One process at a time, where nothing but a file on this machine can say so."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from anomaly.errors import ConfigError


class OwnerLock:
    """Held from construction to `close` or the end of a `with`, or to the end of the process, however it ends.

    Raises ConfigError, with the other process's id, if somebody else holds it: `taken` says what that one does, and
    what to do about it.
    """

    def __init__(self, path: Path, taken: str) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise ConfigError(f"process {holder} already {taken}") from error
        os.truncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go; closing twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
