"""The registry: models that are whole or not there, known by aliases, with a way back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from anomaly.errors import DataError, ModelError, UsageError
from anomaly.registry.manifest import sha256
from anomaly.registry.store import Registry
from tests.detectors.onnx_files import distance, features
from tests.registry.stock import CARD, FRAME, manifest, publish, stocked
from tests.registry.test_safety import broadcast_bomb, constant_bomb

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three models that nobody changes; tests that do, copy it."""
    folder = tmp_path_factory.mktemp("shelf")
    stocked(folder)
    return folder


@pytest.fixture
def registry(shelf: Path, tmp_path: Path) -> Registry:
    """A registry of one's own with the three models in it."""
    shutil.copytree(shelf, tmp_path / "models")
    return Registry(tmp_path / "models")


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, count: int) -> Iterator[None]:
    """What is done inside ends, as by a kill, when something is made durable for the `count`-th time."""
    left = [count]
    real = os.fsync

    def sync(descriptor: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        with pytest.raises(KeyboardInterrupt):
            yield


def syncs(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> int:
    """How often `act` makes something durable."""
    done: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", done.append)
        act()
    return len(done)


def test_what_was_published_comes_back(registry: Registry) -> None:
    """A model is found by alias, by number and by digest, and is byte for byte what was published."""
    registry.set_alias("bus", "champion", 2, "first")
    entry = registry.resolve("bus@champion")
    loaded = registry.load(entry)
    assert (loaded.onnx, loaded.frame) == (distance(scale=2.0), FRAME)
    assert registry.resolve("bus/2") == registry.resolve(loaded.manifest.digest[:8]) == entry
    assert (entry.folder / "card.md").read_bytes() == CARD
    assert (entry.folder.parent / "frames" / f"{sha256(FRAME)}.json").read_bytes() == FRAME
    assert loaded.manifest.reference == entry.reference == "bus/2"


def test_a_loaded_model_scores(registry: Registry) -> None:
    """The engine's model has the constants of the manifest to the bit, and a scorer that runs."""
    model = registry.load(registry.resolve("bus/1")).engine_model()
    assert (model.name, model.k, model.q_fleet) == ("bus/1", 7.25, 1.0 / 3.0)
    assert model.policy == manifest().policy.threshold_policy()
    assert np.isfinite(model.scorer.score(features(5))).all()


def test_the_same_model_has_the_same_digest_wherever_it_is(registry: Registry, tmp_path: Path) -> None:
    """Neither number, folder nor metrics are in the digest; the weights are."""
    other = Registry(tmp_path / "other")
    publish(other, fleet="tram", metrics={}, parent=7)
    digests = [registry.manifest(entry).digest for entry in registry.entries("bus")]
    assert other.manifest(other.resolve("tram/1")).digest == digests[0]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("name", ["bus/2/model.onnx", "bus/2/card.md", "bus/2/manifest.json", "frame"])
def test_a_changed_byte_is_found(registry: Registry, name: str) -> None:
    """Whichever byte of whichever file of a model is changed, loading names the file; the others still load."""
    path = registry.folder / name
    if name == "frame":
        path = registry.folder / "bus" / "frames" / f"{sha256(FRAME)}.json"
    whole = path.read_bytes()
    for position in np.linspace(0, len(whole) - 1, 40).astype(int):
        changed = bytearray(whole)
        changed[position] ^= 0x01
        path.write_bytes(changed)
        with pytest.raises(ModelError, match=re.escape(str(path))):
            registry.load(registry.resolve("bus/2"))
    path.write_bytes(whole)
    registry.load(registry.resolve("bus/2"))


def test_the_message_has_both_digests(registry: Registry) -> None:
    """A changed model file is refused with the digest it has and the one it should have."""
    path = registry.folder / "bus" / "1" / "model.onnx"
    before, after = sha256(path.read_bytes()), sha256(distance(scale=9.0))
    path.write_bytes(distance(scale=9.0))
    with pytest.raises(ModelError, match=rf"SHA-256 is {after}, the manifest says {before}"):
        registry.load(registry.resolve("bus/1"))


def test_other_constants_under_a_new_seal_are_found(registry: Registry) -> None:
    """A manifest whose k was changed and that was sealed again no longer fits the model's digest."""
    entry = registry.resolve("bus/1")
    changed = msgspec.structs.replace(registry.manifest(entry), k=99.0)
    (entry.folder / "manifest.json").write_bytes(changed.to_json())
    with pytest.raises(ModelError, match=rf"give the digest [0-9a-f]{{64}}, it says {changed.digest}"):
        registry.load(entry)


def test_a_model_that_lost_a_file_or_its_place_is_refused(registry: Registry) -> None:
    """A missing file, a huge one and a folder under another number are refused in words."""
    home = registry.folder / "bus"
    (home / "1" / "card.md").unlink()
    os.truncate(home / "2" / "model.onnx", 1 << 36)
    (home / "3").rename(home / "4")
    for number, said in ((1, "card.md cannot be read: No such file"), (2, "was changed"), (4, "that of bus/3")):
        with pytest.raises(ModelError, match=said):
            registry.load(registry.resolve(f"bus/{number}"))


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        (constant_bomb(), {}, "ConstantOfShape"),
        (broadcast_bomb(), {}, "more memory than it may have"),
        (b"", {}, "empty"),
        (distance(), {"width": 16}, "width 8 and opset 17, its manifest says width 16"),
        (distance(), {"opset": 21}, "its manifest says width 8 and opset 21"),
    ],
)
def test_what_could_hurt_is_never_published(tmp_path: Path, model: bytes, changes: dict[str, int], said: str) -> None:
    """A hostile model, or one that is not what its manifest says, leaves nothing behind."""
    with pytest.raises(ModelError, match=said):
        Registry(tmp_path / "models").publish("bus", {"model.onnx": model}, manifest(**changes), FRAME)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("name", ["../bus", "", ".hidden", "a/b", "bus\n"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    """No fleet and no file can be named so that it lies elsewhere."""
    registry = Registry(tmp_path / "models")
    with pytest.raises(UsageError):
        publish(registry, fleet=name)
    with pytest.raises(UsageError):
        registry.publish("bus", {"model.onnx": distance(), name: b""}, manifest(), FRAME)
    with pytest.raises(UsageError):
        registry.aliases(name)
    assert list(tmp_path.iterdir()) == []


def test_a_publish_that_dies_leaves_no_half_model(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any moment, a publish has added a whole model or none, and the next one tidies up."""
    count = syncs(monkeypatch, lambda: publish(Registry(tmp_path / "count")))
    assert count >= 7
    for step in range(1, count + 1):
        with killed_at(monkeypatch, step):
            publish(registry, scale=7.0)
        for entry in registry.entries("bus"):
            registry.load(entry)
    number = publish(registry, scale=8.0)
    assert [entry.number for entry in registry.entries("bus")][-1] == number
    assert not list((registry.folder / "bus").glob(".publishing*"))


def test_publishing_at_the_same_time_gives_distinct_numbers(tmp_path: Path) -> None:
    """Three processes that publish into one folder get three numbers, and every model is whole."""
    code = (
        "import sys, pathlib; from tests.registry.stock import publish, Registry\n"
        "print(publish(Registry(pathlib.Path(sys.argv[1])), scale=float(sys.argv[2])))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(scale)], cwd=ROOT, stdout=subprocess.PIPE)
        for scale in (1, 2, 3)
    ]
    numbers = sorted(int(process.communicate()[0]) for process in running)
    assert numbers == [1, 2, 3]
    registry = Registry(tmp_path)
    digests = {registry.load(entry).manifest.digest for entry in registry.entries("bus")}
    assert len(digests) == 3


def test_promotion_and_the_way_back(registry: Registry) -> None:
    """Each rollback goes one champion further back, never to one that was rolled back from; all is on record."""
    for number in (1, 2, 3):
        registry.promote("bus", number, f"better {number}")
    assert registry.rollback("bus", "alarms").number == 2
    assert registry.rollback("bus", "alarms still").number == 1
    with pytest.raises(UsageError, match="no other champion"):
        registry.rollback("bus", "again")
    registry.promote("bus", 3, "mended")
    assert registry.rollback("bus", "no").number == 1
    assert registry.aliases("bus") == {"champion": 1}
    said = [(change.number, change.kind, change.reason) for change in registry.history("bus")]
    assert said[:4] == [
        (1, "set", "better 1"),
        (2, "set", "better 2"),
        (3, "set", "better 3"),
        (2, "rollback", "alarms"),
    ]
    assert len(said) == 7


def test_changes_at_the_same_time_are_all_on_record(registry: Registry) -> None:
    """Writers take turns: of many changes at once none is lost, and the last on record is what holds."""
    numbers = [1, 2, 3] * 8
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: registry.set_alias("bus", "shadow", number, "look"), numbers))
    said = [change.number for change in registry.history("bus")]
    assert sorted(said) == sorted(numbers)
    assert registry.aliases("bus") == {"shadow": said[-1]}


def test_a_reader_never_sees_half_of_the_aliases(registry: Registry) -> None:
    """The file is replaced, never written over: who has it open reads it whole as it was."""
    registry.set_alias("bus", "champion", 1, "first")
    path = registry.folder / "bus" / "aliases.json"
    with path.open("rb") as file:
        before = path.read_bytes()
        registry.set_alias("bus", "champion", 2, "second")
        assert file.read() == before != path.read_bytes()


def test_aliases_are_independent_and_can_be_taken_away(registry: Registry) -> None:
    """Champion, challenger and shadow move on their own; None takes one away; a broken model gets none."""
    registry.set_alias("bus", "champion", 1, "first")
    registry.set_alias("bus", "challenger", 2, "try it")
    registry.set_alias("bus", "shadow", 2, "look at it")
    registry.set_alias("bus", "challenger", None, "worse")
    assert registry.aliases("bus") == {"champion": 1, "shadow": 2}
    (registry.folder / "bus" / "3" / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelError):
        registry.set_alias("bus", "champion", 3, "broken")
    assert registry.resolve("bus@champion").number == 1


@pytest.mark.parametrize("before", [(1, 2), (1, 2, 3)])
def test_an_alias_that_dies_half_way_keeps_the_way_back(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, before: tuple[int, ...]
) -> None:
    """Killed at any moment, a change has happened or not, and a rollback goes where it should from there."""
    for step in range(1, 5):
        for name in ("history.jsonl", "aliases.json"):
            (registry.folder / "bus" / name).unlink(missing_ok=True)
        for number in before:
            registry.set_alias("bus", "champion", number, "up")
        with killed_at(monkeypatch, step):
            if len(before) == 2:
                registry.set_alias("bus", "champion", 3, "up")
            else:
                registry.rollback("bus", "down")
        now = registry.aliases("bus")["champion"]
        assert now in (2, 3)
        assert registry.rollback("bus", "down").number == now - 1


def test_references_that_lead_nowhere_are_told_apart(registry: Registry) -> None:
    """What is written wrongly is a usage error with the forms; what is not there names what is."""
    registry.set_alias("bus", "champion", 1, "first")
    for reference, error, said in [
        ("bus", UsageError, "FLEET@champion"),
        ("bus@", UsageError, "FLEET/NUMBER"),
        ("../bus/1", UsageError, "names no model"),
        ("bus@shadow", ModelError, "champion -> 1"),
        ("bus/9", ModelError, "models of bus there: 1, 2, 3"),
        ("tram/1", ModelError, "models of tram there: none"),
        ("0" * 64, ModelError, "no model in .* has the digest"),
    ]:
        with pytest.raises(error, match=said):
            registry.resolve(reference)


def test_a_broken_alias_file_is_refused(registry: Registry) -> None:
    """Aliases and a history that cannot be read, or are newer, are refused with their path."""
    home = registry.folder / "bus"
    for text, said in ((b"{", "cannot be used"), (b'{"version":2}', "version 2"), (b'{"champion":"x"}', "int")):
        (home / "aliases.json").write_bytes(text)
        with pytest.raises(ModelError, match=said):
            registry.aliases("bus")
    (home / "history.jsonl").write_bytes(b"{}\n")
    with pytest.raises(ModelError, match=r"history\.jsonl"):
        registry.history("bus")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Where the file system refuses, it is a DataError with the path, not a traceback."""
    (tmp_path / "models").write_text("a file")
    with pytest.raises(DataError, match="models/bus cannot be written"):
        publish(Registry(tmp_path / "models"))
