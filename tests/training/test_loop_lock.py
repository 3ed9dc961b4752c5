"""Two passes of the loop never work on one run at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anomaly.errors import ConfigError
from training.loop.place import alone


def test_a_second_loop_is_told_who_is_there(tmp_path: Path) -> None:
    """While a pass lasts another one is refused with the process's id; after it the next may begin."""
    said = f"process {os.getpid()} already runs the loop of"
    with alone(tmp_path / "loop"), pytest.raises(ConfigError, match=said), alone(tmp_path / "loop"):
        pass
    with alone(tmp_path / "loop"):
        pass


def test_a_loop_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    """The lock of a process that died is gone with it."""
    child = os.fork()
    if child == 0:
        alone(tmp_path / "loop").__enter__()
        os._exit(9)
    os.waitpid(child, 0)
    with alone(tmp_path / "loop"):
        assert (tmp_path / "loop" / "loop.lock").read_text(encoding="ascii") == f"{os.getpid()}\n"
