"""Scorers as processes: signals, takeovers, refusals, and a stream that nothing stops."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.errors import StateError
from anomaly.service.rows import read_decisions
from anomaly.service.stored import StoreReader, store_path
from anomaly.stream.ports import Record
from anomaly.telemetry.encode import encode_readings
from anomaly.telemetry.records import DeadLetter
from tests.service.child import finish, score, start
from tests.service.rig import FLEET, Rig, fill, make_rig, readings, seen


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that a process does."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def offset(run: Path, partition: int = 0) -> int:
    """How far a partition's store is; 0 without one."""
    path = store_path(run, "g", "bus.telemetry", partition)
    if not path.exists():
        return 0
    try:
        store = StoreReader(path)
    except StateError:  # it is being made
        return 0
    found = store.offset() or 0
    store.close()
    return found


def wait_idle(run: Path) -> None:
    """Wait until both partitions were written and stand still, so that nobody is inside a transaction."""
    before = [0, 0]
    while 0 in (now := [offset(run), offset(run, 1)]) or now != before:
        before = now
        time.sleep(0.4)


def command(rig: Rig, *more: str) -> list[str]:
    """`anomaly score` on the rig, as a person calls it."""
    python = [sys.executable, "-m", "anomaly.cli.main", "score", "--config", str(rig.folder / "fleet.toml")]
    places = ["--dir", str(rig.folder / "run"), "--models", str(rig.registry.folder), "--metrics-port", "0"]
    return [*python, "--log", str(rig.log_path), "--group", "g", *places, *more]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_drains(number: signal.Signals, code: int, rig: Rig) -> None:
    """SIGTERM and Ctrl-C end with everything written and sent: a second run scores nothing again."""
    process = subprocess.Popen(command(rig), stderr=subprocess.PIPE, text=True)
    wait_until(lambda: offset(rig.folder / "run") > 0 and offset(rig.folder / "run", 1) > 0)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, "stopped" in said) == (code, True)
    assert score(rig, rig.folder / "run") == 0
    after = seen(rig, rig.folder / "run")
    assert (len(after.decisions), after.repeats) == (720, 0)


def test_a_stopped_process_that_wakes_writes_nothing(rig: Rig) -> None:
    """Under SIGSTOP while another takes its partitions, it finds on waking that they are gone, and ends with 5."""
    run = rig.folder / "run"
    late = start(rig, run, stop_at_end=False)
    wait_idle(run)
    os.kill(late.pid or 0, signal.SIGSTOP)
    for lock in rig.folder.glob("*.lock"):
        lock.unlink()  # as if the stopped process had lost its place in a group
    rest = readings(each=120).rows(720, 1440)
    rig.send("telemetry", _records(rig, rest))
    assert score(rig, run) == 0
    before = seen(rig, run)
    os.kill(late.pid or 0, signal.SIGCONT)
    assert finish(late) == 5
    assert seen(rig, run) == before
    assert len(before.decisions) == 1_440
    assert "another process took this partition over" in (run / "stderr.txt").read_text()


def _records(rig: Rig, batch: object) -> list[Record]:
    messages = encode_readings(batch, rig.fleet)  # type: ignore[arg-type]
    return [Record(vehicle.encode(), value) for vehicle, value in zip(batch.vehicles, messages, strict=True)]  # type: ignore[attr-defined]


def test_a_second_process_on_the_log_is_refused(rig: Rig) -> None:
    """On the embedded log, one process a group: the second ends with 3 and says who is there."""
    first = start(rig, rig.folder / "run", stop_at_end=False)
    wait_until(lambda: offset(rig.folder / "run") > 0)
    assert score(rig, rig.folder / "other") == 3
    assert f"process {first.pid} already reads" in (rig.folder / "other" / "stderr.txt").read_text()
    os.kill(first.pid or 0, signal.SIGTERM)
    assert finish(first) == 0


def test_what_cannot_be_run_is_said(rig: Rig) -> None:
    """A missing topic names the command that makes it."""
    (rig.folder / "fleet.toml").write_text(FLEET.replace("[stream]", '[stream]\nprefix = "other"'))
    done = subprocess.run(command(rig, "--stop-at-end"), capture_output=True, text=True, check=False)
    assert (done.returncode, "topics create" in done.stderr) == (4, True)
    assert done.stderr.splitlines()[-1].startswith("anomaly: ")


def test_the_scorer_needs_neither_pandas_nor_scikit_learn(rig: Rig) -> None:
    """A scorer that decided, alerted and logged has not loaded what only training needs."""
    program = (
        "import sys\nfrom anomaly.cli.tree import app\ntry:\n    app(sys.argv[1:], standalone_mode=False)\n"
        "finally:\n    print(sorted({'pandas', 'sklearn', 'duckdb', 'kafka'} & set(sys.modules)))"
    )
    arguments = command(rig, "--stop-at-end")[3:]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_full_disk_ends_with_5_and_loses_nothing(rig: Rig, tmp_path: Path) -> None:
    """Without room the scorer stops; with room it goes on where it was, and nothing is missing or doubled."""
    limit = ["prlimit", "--fsize=120000", "--"]
    done = subprocess.run([*limit, *command(rig, "--stop-at-end")], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "anomaly: " in done.stderr
    assert score(rig, rig.folder / "run") == 0
    after = seen(rig, rig.folder / "run")
    assert (len(after.decisions), len(after.archived), len(after.dead_letters)) == (720, 720, 15)


def test_a_newer_store_ends_with_5(rig: Rig) -> None:
    """A store of a later version stops the scorer before it reads anything."""
    run = rig.folder / "run"
    assert score(rig, run) == 0
    with sqlite3.connect(store_path(run, "g", "bus.telemetry", 1)) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    assert score(rig, run) == 5
    assert "version 9, this program knows 3" in (run / "stderr.txt").read_text()


def test_fresh_state_scores_all_again(rig: Rig) -> None:
    """--fresh-state starts over from the earliest message; what was logged before stays."""
    run = rig.folder / "run"
    assert score(rig, run) == 0
    assert score(rig, run, fresh_state=True) == 0
    rows = read_decisions(run).to_pylist()
    assert len(rows) == 1_440
    assert len({(row["partition"], row["offset"]) for row in rows}) == 720


@given(st.lists(st.binary(max_size=40) | st.text(max_size=30).map(str.encode), min_size=1, max_size=40))
@settings(max_examples=4, deadline=None)
def test_poison_never_stops_the_stream(
    stock: Path, tmp_path_factory: pytest.TempPathFactory, poison: list[bytes]
) -> None:
    """Every message that is no reading is a dead letter with a reason and its bytes; its neighbours are scored."""
    rig = make_rig(tmp_path_factory.mktemp("poison"), stock)
    batch = readings(each=8)
    good = [Record(r.key, r.value, 0) for r in _records(rig, batch)]
    bad = [Record(b"x", value, 0) for value in poison]
    mixed = [record for pair in zip(good, bad * 96, strict=False) for record in pair][: 2 * len(bad)] + good[len(bad) :]
    rig.send("telemetry", mixed)
    assert score(rig, rig.folder / "run") == 0
    after = seen(rig, rig.folder / "run")
    assert len(after.decisions) == 96
    letters = [msgspec.json.decode(value, type=DeadLetter) for value in after.dead_letters]
    assert sorted(letter.payload for letter in letters) == sorted(poison)
    assert all(letter.reason for letter in letters)


def test_a_second_home_is_a_dead_letter(rig: Rig) -> None:
    """A vehicle's readings in another partition than its own are refused by name, and do not touch its state."""
    run = rig.folder / "run"
    assert score(rig, run) == 0
    one = readings(each=61).rows(720, 732)
    home = next(row["partition"] for row in read_decisions(run).to_pylist() if row["vehicle"] == "v1")
    record = _records(rig, one)[1]
    rig.send("telemetry", [Record(record.key, record.value, 1 - home)])
    assert score(rig, run) == 0
    after = seen(rig, run)
    assert len(after.decisions) == 720
    letters = [msgspec.json.decode(value, type=DeadLetter) for value in after.dead_letters]
    told = [letter for letter in letters if letter.reason.startswith("partition: vehicle v1 belongs to")]
    assert [letter.payload for letter in told] == [record.value]


def test_fill_has_enough(rig: Rig) -> None:
    """The rig's log holds what these tests count on: readings in both partitions, poison among them."""
    fill(rig, readings(each=1), poison_every=5)
    partitions = {partition for partition, _, _ in rig.messages("telemetry")}
    assert partitions == {0, 1}
