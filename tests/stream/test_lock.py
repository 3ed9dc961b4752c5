"""Tests of the lock that keeps a second process off an embedded log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from anomaly.errors import ConfigError
from anomaly.stream.embedded import owner_lock

HOLD = """
import sys, time
from pathlib import Path
from anomaly.stream.embedded import owner_lock
lock = owner_lock(Path(sys.argv[1]), "g", "t")
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_with_the_firsts_id(tmp_path: Path) -> None:
    """While another process holds the lock, ours is refused and names it; killed, it blocks nobody."""
    log = tmp_path / "fleet.db"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(log)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=f"process {holder.pid} already reads t .* group g") as refused:
            owner_lock(log, "g", "t")
        assert refused.value.exit_code == 3
    finally:
        holder.kill()
        holder.communicate()
    owner_lock(log, "g", "t").close()


def test_groups_and_topics_do_not_share_a_lock(tmp_path: Path) -> None:
    """Another group, or another topic, has a lock of its own, whatever its name."""
    locks = [owner_lock(tmp_path / "f.db", group, topic) for group in ("a", "../b/c") for topic in ("t", "u")]
    assert {lock.path.parent for lock in locks} == {tmp_path}
    for lock in locks:
        lock.close()
        lock.close()
