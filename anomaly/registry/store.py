"""The registry: a folder of models that are published whole, never changed, and known by aliases."""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from anomaly.detectors.onnx import OnnxDetector
from anomaly.disk import replace_file, sync_folder, write_synced
from anomaly.engine.model import Model
from anomaly.errors import DataError, ModelError, UsageError
from anomaly.registry import safety
from anomaly.registry.manifest import Manifest, model_digest, sha256
from anomaly.registry.probe import probe

Alias = Literal["champion", "challenger", "shadow"]
_FLEET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")
_DIGEST = re.compile(r"[0-9a-f]{8,64}")
_ASIDE = ".publishing-"


class Entry(NamedTuple):
    """A published model: whose, which, where."""

    fleet: str
    number: int
    folder: Path

    @property
    def reference(self) -> str:
        """The model's name for people: "fleet/3"."""
        return f"{self.fleet}/{self.number}"


class LoadedModel(NamedTuple):
    """A model whose every digest was found right and whose operators are harmless."""

    manifest: Manifest
    onnx: bytes
    frame: bytes

    def engine_model(self) -> Model:
        """The model as the engine uses it; here ONNX Runtime is loaded."""
        known, detector = self.manifest, OnnxDetector(self.onnx, self.manifest.signals)
        k, q_fleet, policy, checks = known.deciding
        return Model(known.reference, known.digest, detector, k, q_fleet, policy, checks, detector.abrupt)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `history.jsonl`: what an alias meant from `at` (ms since 1970 UTC) on; null: nothing."""

    alias: Alias
    number: int | None
    at: int
    reason: str
    kind: Literal["set", "rollback"] = "set"


class _Aliases(msgspec.Struct, frozen=True, kw_only=True):
    champion: int | None = None
    challenger: int | None = None
    shadow: int | None = None
    version: int = 1


class Registry:
    """Models of any number of fleets under one folder; processes on one machine may share it.

    What readers see is always whole: folders and files are written aside, synced, then renamed. Writers take turns
    by a lock on `<fleet>/.lock`, which a process that dies lets go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, fleet: str, files: Mapping[str, bytes], manifest: Manifest, frame_json: bytes) -> int:
        """Check, try and store a model under the fleet's next number, which is returned.

        `files` holds `model.onnx` and what else belongs to it; `manifest` comes without number, frame, files,
        digest and seal. Raises ModelError if the model is not harmless or not what the manifest says.
        """
        model = files.get("model.onnx", b"")
        _check_names(fleet, files)
        _check_model(model, manifest)
        probe(model, len(manifest.signals))
        frame = sha256(frame_json)
        complete = msgspec.structs.replace(
            manifest,
            name=fleet,
            frame=frame,
            files={name: sha256(data) for name, data in sorted(files.items())},
            digest=model_digest(model, frame, manifest.deciding),
        )
        with self._writing(fleet) as home:
            for leftover in home.glob(f"{_ASIDE}*"):
                shutil.rmtree(leftover)
            frames = home / "frames"
            frames.mkdir(exist_ok=True)
            replace_file(frames / f"{frame}.json", frame_json)
            number = max([entry.number for entry in self.entries(fleet)], default=0) + 1
            numbered = msgspec.structs.replace(complete, number=number)
            _write_folder(home / str(number), {**files, "manifest.json": numbered.to_json()})
        return number

    def fleets(self) -> list[str]:
        """Names of the fleets that have a folder here, sorted."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir() and _FLEET.fullmatch(path.name))

    def entries(self, fleet: str) -> list[Entry]:
        """The published models of `fleet`, oldest first."""
        home = self._home(fleet)
        if not home.is_dir():
            return []
        numbers = sorted(int(path.name) for path in home.iterdir() if re.fullmatch(r"[1-9]\d{0,8}", path.name))
        return [Entry(fleet, number, home / str(number)) for number in numbers]

    def resolve(self, reference: str) -> Entry:
        """Find "fleet@champion", "fleet/3" or a digest (8 digits of it or more); ModelError if it is not there."""
        if match := re.fullmatch(rf"({_FLEET.pattern})/([1-9]\d{{0,8}})", reference):
            return self._numbered(match[1], int(match[2]))
        if match := re.fullmatch(rf"({_FLEET.pattern})@([a-z]+)", reference):
            known = self.aliases(match[1])
            if match[2] not in known:
                said = ", ".join(f"{alias} -> {number}" for alias, number in known.items())
                hint = "`anomaly train` makes one, or give another --models" if not known else f"its aliases: {said}"
                raise ModelError(f"{match[1]} has no {match[2]} in {self.folder}; {hint}")
            return self._numbered(match[1], known[match[2]])
        if _DIGEST.fullmatch(reference):
            return self._digested(reference)
        raise UsageError(f"`{reference}` names no model; write FLEET@champion, FLEET/NUMBER or a digest")

    def manifest(self, entry: Entry) -> Manifest:
        """The manifest of `entry`, read and found unchanged; files are not looked at."""
        path = entry.folder / "manifest.json"
        manifest = Manifest.from_json(_read(path), str(path))
        if (manifest.name, manifest.number) != (entry.fleet, entry.number):
            raise ModelError(f"{path} is that of {manifest.reference}; put it back to where it was")
        return manifest

    def load(self, entry: Entry) -> LoadedModel:
        """The model's bytes, after every digest was compared and the operators were found harmless.

        Raises ModelError that names the file and both digests.
        """
        manifest = self.manifest(entry)
        expected = {entry.folder / name: digest for name, digest in manifest.files.items()}
        expected[self._home(entry.fleet) / "frames" / f"{manifest.frame}.json"] = manifest.frame
        contents: dict[str, bytes] = {}
        for path, digest in expected.items():
            data = contents[path.name] = _read(path)
            if sha256(data) != digest:
                raise ModelError(
                    f"{path} was changed: its SHA-256 is {sha256(data)}, the manifest says {digest}; "
                    f"restore the file or train again"
                )
        loaded = LoadedModel(manifest, contents.get("model.onnx", b""), contents[f"{manifest.frame}.json"])
        digest = model_digest(loaded.onnx, manifest.frame, manifest.deciding)
        if digest != manifest.digest:
            raise ModelError(
                f"{entry.folder / 'manifest.json'} was changed: k, q_fleet, policy, checks, frame and model.onnx "
                f"give the digest {digest}, it says {manifest.digest}"
            )
        _check_model(loaded.onnx, manifest)
        return loaded

    def verify(self, entry: Entry) -> LoadedModel:
        """`load`, and a trial run in a limited process; ModelError says what is wrong."""
        loaded = self.load(entry)
        probe(loaded.onnx, len(loaded.manifest.signals))
        return loaded

    def aliases(self, fleet: str) -> dict[str, int]:
        """What the fleet's aliases mean now: number by alias, those without a meaning left out."""
        path = self._home(fleet) / "aliases.json"
        if not path.exists():
            return {}
        try:
            known = msgspec.json.decode(_read(path), type=_Aliases)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ModelError(f"{path} cannot be used: {error}") from error
        if known.version != 1:
            raise ModelError(f"{path} has version {known.version}, this program reads 1; update it")
        numbers = {alias: getattr(known, alias) for alias in ("champion", "challenger", "shadow")}
        return {alias: number for alias, number in numbers.items() if number is not None}

    def set_alias(self, fleet: str, alias: Alias, number: int | None, reason: str) -> None:
        """Let `alias` mean `number`, or nothing; the model is loaded first, and refused if it is not whole."""
        if number is not None:
            self.load(self._numbered(fleet, number))
        with self._writing(fleet):
            self._change(fleet, Change(alias=alias, number=number, at=_now_ms(), reason=reason))

    def promote(self, fleet: str, number: int, reason: str) -> Entry:
        """Make a model the champion after its digests were compared and a trial run."""
        entry = self._numbered(fleet, number)
        self.verify(entry)
        self.set_alias(fleet, "champion", number, reason)
        return entry

    def rollback(self, fleet: str, reason: str) -> Entry:
        """Make the champion before this one the champion again; UsageError if there was none."""
        with self._writing(fleet):
            past = _champions(self._history(fleet))
            if len(past) < 2:
                raise UsageError(f"{fleet} has had no other champion to go back to")
            entry = self._numbered(fleet, past[-2])
            self.load(entry)
            change = Change(alias="champion", number=entry.number, at=_now_ms(), reason=reason, kind="rollback")
            self._change(fleet, change)
        return entry

    def history(self, fleet: str) -> list[Change]:
        """Everything the fleet's aliases have meant, oldest first."""
        path = self._home(fleet) / "history.jsonl"
        if not path.exists():
            return []
        try:
            return msgspec.json.Decoder(Change).decode_lines(_read(path))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ModelError(f"{path} cannot be used: {error}") from error

    def _history(self, fleet: str) -> list[Change]:
        """The history with what it may lack: an alias that was set by a process that died before it said so."""
        changes = self.history(fleet)
        current = self.aliases(fleet).get("champion")
        past = _champions(changes)
        if current is not None and past[-1:] != [current]:
            back = past[-2:-1] == [current]
            changes.append(
                Change(
                    alias="champion",
                    number=current,
                    at=_now_ms(),
                    reason="found in aliases.json",
                    kind="rollback" if back else "set",
                )
            )
        return changes

    def _change(self, fleet: str, change: Change) -> None:
        """Aliases first, which is the act itself, then the history; the lock is held."""
        lines = [*self._history(fleet), change]
        known = msgspec.convert({**self.aliases(fleet), change.alias: change.number}, _Aliases)
        home = self._home(fleet)
        replace_file(home / "aliases.json", msgspec.json.encode(known) + b"\n")
        replace_file(home / "history.jsonl", b"".join(msgspec.json.encode(line) + b"\n" for line in lines))

    def _home(self, fleet: str) -> Path:
        if not _FLEET.fullmatch(fleet):
            raise UsageError(f"`{fleet}` is no fleet's name: letters, digits, `_`, `.` and `-` only")
        return self.folder / fleet

    def _numbered(self, fleet: str, number: int) -> Entry:
        folder = self._home(fleet) / str(number)
        if not folder.is_dir():
            known = ", ".join(str(entry.number) for entry in self.entries(fleet)) or "none"
            raise ModelError(f"{fleet}/{number} is not in {self.folder}; models of {fleet} there: {known}")
        return Entry(fleet, number, folder)

    def _digested(self, digest: str) -> Entry:
        found: dict[str, Entry] = {}
        for fleet in self.fleets():
            for entry in self.entries(fleet):
                known = self.manifest(entry).digest
                if known.startswith(digest):
                    found[known] = entry
        if len(found) != 1:
            raise ModelError(
                f"{'no model' if not found else 'more than one model'} in {self.folder} has the digest {digest}"
            )
        return next(iter(found.values()))

    @contextmanager
    def _writing(self, fleet: str) -> Iterator[Path]:
        """Hold the fleet's lock; what the file system refuses is a DataError."""
        home = self._home(fleet)
        try:
            home.mkdir(parents=True, exist_ok=True)
            with (home / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield home
        except OSError as error:
            raise DataError(f"{home} cannot be written: {error}") from error


def _champions(changes: list[Change]) -> list[int]:
    """The champions that a rollback can reach, the present one last."""
    past: list[int] = []
    for change in changes:
        if change.alias != "champion":
            continue
        if change.kind == "rollback":
            past = past[:-1]
        elif change.number is not None and past[-1:] != [change.number]:
            past.append(change.number)
    return past


def _check_names(fleet: str, files: Mapping[str, bytes]) -> None:
    wrong = [name for name in files if not _FILE.fullmatch(name) or name == "manifest.json"]
    if not _FLEET.fullmatch(fleet) or wrong:
        raise UsageError(f"{', '.join(wrong) or fleet} cannot be the name of a file of a model")


def _check_model(model: bytes, manifest: Manifest) -> None:
    """Raises ModelError unless `model` is harmless and of the width and opset that the manifest says."""
    contract = safety.check(model, len(manifest.signals))
    if (contract.width, contract.opset) != (manifest.width, manifest.opset):
        raise ModelError(
            f"the model has width {contract.width} and opset {contract.opset}, its manifest says width "
            f"{manifest.width} and opset {manifest.opset}"
        )


def _read(path: Path) -> bytes:
    """At most one byte more than a model may have, so that a huge file costs no memory."""
    try:
        with path.open("rb") as file:
            return file.read(safety.MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=folder.parent))
    aside.chmod(0o755)
    for name, data in files.items():
        write_synced(aside / name, data)
    sync_folder(aside)
    aside.rename(folder)
    sync_folder(folder.parent)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
