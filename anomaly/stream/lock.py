"""One process per (log, group, topic) where there is no broker to share partitions out."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from urllib.parse import quote

from anomaly.errors import ConfigError


class OwnerLock:
    """Held from construction to `close`, or to the end of the process, however it ends.

    Raises ConfigError, with the other process's id, if somebody else holds it.
    """

    def __init__(self, log: Path, group: str, topic: str) -> None:
        self.path = log.with_name(f"{log.name}.{quote(group, safe='')}.{quote(topic, safe='')}.lock")
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise ConfigError(
                f"process {holder} already reads {topic} of {log} as group {group}; end it, or use another --group"
            ) from error
        os.truncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go; closing twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
