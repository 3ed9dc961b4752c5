"""SIGKILL at every failpoint: what comes of the stream is what an uninterrupted run makes of it."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from anomaly.service import failpoints
from tests.service.child import score
from tests.service.rig import Rig, Seen, fill, make_rig, readings, seen

SOURCES = Path(failpoints.__file__).parent


@pytest.fixture(scope="module")
def uninterrupted(stock: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What one run without a kill makes of the rig's log."""
    rig = make_rig(tmp_path_factory.mktemp("whole"), stock)
    fill(rig, readings())
    assert score(rig, rig.folder / "run") == 0
    whole = seen(rig, rig.folder / "run")
    assert len(whole.decisions) == 720
    assert len(whole.archived) == 720
    assert len(whole.alerts) > 4
    assert len(whole.dead_letters) == 15
    assert whole.repeats == 0
    return whole


def test_the_list_of_failpoints_is_that_of_the_code() -> None:
    """Every failpoint that the code calls is in NAMES, once, and there is no other."""
    called = [name for path in SOURCES.glob("*.py") for name in re.findall(r'failpoint\("(.+?)"\)', path.read_text())]
    assert sorted(called) == sorted(failpoints.NAMES)


@pytest.mark.parametrize("name", failpoints.NAMES)
def test_a_kill_changes_nothing(
    name: str, rig: Rig, uninterrupted: Seen, record_property: Callable[[str, object], None]
) -> None:
    """Killed at this place twice, the run ends with the same decisions, alerts and dead letters, each once."""
    run = rig.folder / "run"
    assert score(rig, run, f"{name}:1") == -signal.SIGKILL
    assert score(rig, run, f"{name}:2") in (-signal.SIGKILL, 0)
    assert score(rig, run) == 0
    after = seen(rig, run)
    assert after._replace(repeats=0) == uninterrupted
    record_property("repeats", after.repeats)


def test_letters_that_were_sent_and_not_marked_come_again(rig: Rig, uninterrupted: Seen) -> None:
    """A kill between sending and marking repeats letters with the same bytes; dropping repeats leaves each once."""
    run = rig.folder / "run"
    assert score(rig, run, "outbox.after_send:1") == -signal.SIGKILL
    assert score(rig, run) == 0
    after = seen(rig, run)
    assert after.repeats > 0
    assert after._replace(repeats=0) == uninterrupted


@pytest.mark.parametrize(
    ("torn", "place"), [("state first", "checkpoint.after_commit:2"), ("offset first", "checkpoint.before_begin:2")]
)
def test_state_and_offset_in_two_commits_is_seen(torn: str, place: str, rig: Rig, uninterrupted: Seen) -> None:
    """The broken variants fail the very check that the store passes, so the check can see the fault."""
    run = rig.folder / "run"
    assert score(rig, run, place, torn) == -signal.SIGKILL
    assert score(rig, run, torn=torn) == 0
    assert seen(rig, run)._replace(repeats=0) != uninterrupted


@pytest.mark.parametrize("torn", ["state first", "offset first"])
def test_a_broken_variant_is_right_without_a_kill(torn: str, rig: Rig, uninterrupted: Seen) -> None:
    """Without a kill the broken variants give the same, so that it is the kill that the check sees."""
    assert score(rig, rig.folder / "run", torn=torn) == 0
    assert seen(rig, rig.folder / "run") == uninterrupted
