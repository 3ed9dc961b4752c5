"""The state of an experiment: whole or the one before, and a trail that only grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly.errors import DataError
from anomaly.experiments.state import (
    Entry,
    State,
    Taken,
    add_entry,
    read_audit,
    read_state,
    state_path,
    write_state,
)
from tests.experiments.plan import experiment


def state(at: int = 5) -> State:
    """A state on its second step."""
    steps = [Taken(share=0.1, at=1), Taken(share=1.0, at=at)]
    models = {"old": "fleet/1", "new": "fleet/2"}
    return State(
        id="colder", revision=1, digest="d", status="running", experiment=experiment(), models=models,
        digests=models, steps=steps, at=at,
    )  # fmt: skip


def test_a_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """With its ramp and the file as it was; the next one replaces it and leaves nothing beside it."""
    assert read_state(tmp_path, "colder") is None
    write_state(tmp_path, state(4))
    write_state(tmp_path, state(5))
    assert read_state(tmp_path, "colder") == state(5)
    assert [path.name for path in tmp_path.iterdir()] == ["colder.state.json"]
    assert state().share == 1.0


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"id": 1}'])
def test_a_spoilt_state_is_refused_with_a_way_out(tmp_path: Path, content: bytes) -> None:
    """It is not taken for an experiment that has not begun."""
    state_path(tmp_path, "colder").write_bytes(content)
    with pytest.raises(DataError, match=r"colder\.state\.json cannot be used: .*remove it"):
        read_state(tmp_path, "colder")


def test_a_newer_state_is_refused(tmp_path: Path) -> None:
    """What a newer program wrote is not half understood."""
    write_state(tmp_path, state())
    path = state_path(tmp_path, "colder")
    path.write_bytes(path.read_bytes().replace(b'"version": 2', b'"version": 3'))
    with pytest.raises(DataError, match="version 3"):
        read_state(tmp_path, "colder")


def test_the_audit_trail_grows_and_outlives_a_crash(tmp_path: Path) -> None:
    """Entries come back in order for their experiment; a line cut short is passed over, then written over."""
    one = Entry(at=1, id="colder", revision=1, act="began", reason="")
    other = Entry(at=2, id="warmer", revision=1, act="began", reason="")
    add_entry(tmp_path, one)
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"at":2,"id":"col')
    assert read_audit(tmp_path, "colder") == [one]
    add_entry(tmp_path, other)
    assert read_audit(tmp_path, "colder") == [one]
    assert read_audit(tmp_path, "warmer") == [other]
