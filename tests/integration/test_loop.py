"""The closed loop as a person types it: from nothing to a promotion, every process a real one, nobody acting."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from anomaly import fleet as fleets
from anomaly.engine.frame import Frame
from anomaly.registry.store import Registry
from anomaly.service.rows import LoggedDays, read_decisions
from anomaly.telemetry.files import inspect_history
from training.loop.file import load_loop
from training.loop.place import Place, sources
from training.loop.record import read_record, repeat

ROOT = Path(__file__).resolve().parents[2]
HOW_TO = (ROOT / "docs" / "how-to" / "loop.md").read_text(encoding="utf-8")
WAY = ["watch", "retrain", "gate", "shadow", "experiment", "promote"]


class Walked(NamedTuple):
    """What is left of the how-to: its folder, what it printed, and every champion that was seen while it ran."""

    place: Place
    said: str
    champions: list[object]


def typed(blocks: list[str], folder: Path) -> subprocess.Popen[str]:
    """A shell in `folder` into which the blocks are typed, one after the other."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = "set -eo pipefail\n" + "".join(blocks)
    out = subprocess.PIPE
    return subprocess.Popen(
        ["bash", "-c", script], cwd=folder, env={**os.environ, "PATH": path}, stdout=out, stderr=out, text=True
    )


def watch(aliases: Path, seen: list[object], over: threading.Event) -> None:
    """Note every champion that the registry names, as often as can be; None where it names none."""
    while not over.wait(0.002):
        if aliases.exists():
            champion = json.loads(aliases.read_bytes()).get("champion")
            if not seen or seen[-1] != champion:
                seen.append(champion)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Walked:
    """Every block of the how-to, typed in an empty folder."""
    folder = tmp_path_factory.mktemp("loop")
    blocks = re.findall(r"^```bash\n(.*?)^```", HOW_TO, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    seen: list[object] = []
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(folder / "models" / "sample" / "aliases.json", seen, over))
    watcher.start()
    shell = typed(blocks, folder)
    try:
        out, errors = shell.communicate(timeout=300)
    finally:
        shell.kill()
        over.set()
        watcher.join()
    assert shell.returncode == 0, f"{out[-2000:]}\n{errors[-2000:]}"
    fleet = fleets.load(folder / "fleet.toml")
    run, history = folder / "run" / "sample", inspect_history(folder / "march.parquet", fleet).batch
    return Walked(Place(fleet, Registry(folder / "models"), run, load_loop(run / "loop.toml"), history), out, seen)


def test_a_better_model_goes_the_whole_way_to_champion(walked: Walked) -> None:
    """Watch, retrain, gate, shadow, experiment, promote: each state once, in order, in one cycle."""
    own = [one for one in walked.place.trail if one.cycle == 1]
    assert [one.left for one in own] == WAY
    assert [one.entered for one in own] == [*WAY[1:], "watch"]
    assert walked.place.champion() == "sample/2"
    assert "cycle 1  promote -> watch: sample/2 is the champion" in walked.said


def test_every_step_says_why(walked: Walked) -> None:
    """Each step has a reason with what was found, and those of the models are in the registry's history too."""
    reasons = {one.left: one.reason for one in walked.place.trail if one.cycle == 1}
    assert re.match(r"drift: the rate of alerts is not what it was, for \d+ days; 7 are enough", reasons["watch"])
    assert re.match(r"model [0-9a-f]{12} of [\d,]+ readings, \d+ known faults", reasons["retrain"])
    assert reasons["gate"] == "sample/2 passed all gates"
    assert re.match(r"loop-1-shadow: false_alarms: harm between -[\d.]+ and -[\d.]+ in 1,000", reasons["shadow"])
    assert "found no harm in" in reasons["experiment"]
    assert reasons["experiment"] in reasons["promote"]


def test_there_was_one_champion_at_every_moment(walked: Walked) -> None:
    """From the first model on the registry named one champion, and another one only once."""
    assert walked.champions == [1, 2]
    changes = [change.number for change in walked.place.registry.history("sample") if change.alias == "champion"]
    assert changes == [1, 2]


def test_nobody_acted_but_the_loop(walked: Walked) -> None:
    """After the first model every alias was set by the loop, and no step had waited for a person."""
    reasons = [change.reason for change in walked.place.registry.history("sample")]
    assert reasons[0] == "the first model"
    assert [reason for reason in reasons[1:] if not re.match(r"the loop, cycle \d", reason)] == []
    assert walked.place.file.wait_for_person == ()


def test_the_promoted_model_can_be_made_again_from_its_record(walked: Walked) -> None:
    """The archive, the labels and the record give a model with the digest of the champion."""
    place = walked.place
    record = read_record(place.folder / "0001" / "record.json")
    frame = Frame.from_json(place.registry.load(place.registry.resolve(record.parent)).frame)
    again = repeat(place.fleet, sources(place), frame, record).record
    assert again == record
    assert again.digest == place.registry.manifest(place.registry.resolve("sample@champion")).digest


def test_the_shadow_was_scored_beside_the_champion(walked: Walked) -> None:
    """The shadow log has rows of the challenger beside the champion, and counts its decisions, as long as it lasted."""
    at = {one.left: one.at for one in walked.place.trail if one.cycle == 1}
    logged = [table.to_pylist() for table in LoggedDays(walked.place.run, walked.place.fleet).shadow(0)]
    rows, days = ([row for row in table if row["ts"] <= at["experiment"]] for table in logged)
    assert {(row["model"], row["shadow_model"]) for row in [*rows, *days]} == {("sample/1", "sample/2")}
    assert at["gate"] < min(row["ts"] for row in rows) <= max(row["ts"] for row in rows) <= at["shadow"]
    assert sum(row["compared"] for row in days) > 1_000


def test_the_new_champion_decides_after_its_promotion(walked: Walked) -> None:
    """Before the experiment no decision is the challenger's; after the promotion every one is."""
    at = {one.left: one.at for one in walked.place.trail if one.cycle == 1}
    decided = read_decisions(walked.place.run).select(["ts", "model", "offset"]).to_pylist()
    early = {row["model"] for row in decided if row["ts"] < at["shadow"]}
    tried = {row["model"] for row in decided if at["shadow"] < row["ts"] < at["experiment"]}
    late = {row["model"] for row in decided if row["ts"] > at["promote"]}
    assert (early, tried, late) == ({"sample/1"}, {"sample/1", "sample/2"}, {"sample/2"})


def test_the_record_is_of_what_was_known(walked: Walked) -> None:
    """The retraining learned from events that the scorer was told of, although nobody gave the loop a file of them."""
    told = msgspec.json.Decoder(dict[str, object]).decode_lines(
        (walked.place.run / "events" / "events.jsonl").read_bytes()
    )
    assert len({event["id"] for event in told}) == len(told) == 132
