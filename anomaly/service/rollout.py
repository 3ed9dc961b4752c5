"""Which models score now: the champion and what experiments say, read again when their files change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm, Model
from anomaly.errors import ConfigError
from anomaly.experiments.active import active_arms
from anomaly.registry.store import Registry


class Rollout(NamedTuple):
    """Arms and who is in them; `payload` is what the control log keeps of it: models, states of experiments.

    `problems` say which experiments had to be left out, and why.
    """

    arms: Sequence[Arm]
    assign: Callable[[str], int]
    payload: bytes
    problems: Sequence[str] = ()


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout as the control log has it: enough to repeat it. `files` are the states of experiments by name."""

    champion: str
    models: dict[str, str]
    files: dict[str, str]


class Rollouts:
    """Reads rollouts of one fleet from a registry and a folder of experiments; loads each model once."""

    def __init__(self, registry: Registry, fleet: str, experiments: Path) -> None:
        self._registry = registry
        self._fleet = fleet
        self._experiments = experiments
        self._models: dict[str, tuple[Model, Frame]] = {}
        self._seen: tuple[object, ...] = ()

    def changed(self) -> bool:
        """Whether files changed since the last `read`; what they say may still be the same."""
        return self._signature() != self._seen

    def read(self) -> tuple[Rollout, Frame]:
        """What the files say now. Raises ConfigError or ModelError if that cannot be run."""
        self._seen = self._signature()
        files = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in self._files()}
        champion = self._registry.resolve(f"{self._fleet}@champion").reference
        return self._rollout(champion, self._experiments, files)

    def repeat(self, payload: bytes, folder: Path) -> tuple[Rollout, Frame]:
        """The rollout that the control log has; its experiment files are written to `folder`."""
        recorded = msgspec.json.decode(payload, type=Recorded)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in recorded.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        return self._rollout(recorded.champion, folder, recorded.files)

    def _rollout(self, champion: str, folder: Path, files: dict[str, str]) -> tuple[Rollout, Frame]:
        _, frame = self._load(champion)

        def resolve(reference: str) -> Model:
            name = champion if reference.endswith("@champion") else reference
            model, own = self._load(name)
            if own.digest != frame.digest:
                raise ConfigError(
                    f"all models of a rollout need one frame, and {champion} has {frame.digest[:12]}, {name} "
                    f"{own.digest[:12]}; train without --refit-frame"
                )
            return model

        arms, assign, problems = active_arms(folder, resolve, self._experiments)
        recorded = Recorded(champion=champion, models={arm.name: arm.model.digest for arm in arms}, files=files)
        payload = msgspec.json.encode(recorded, order="deterministic")
        return Rollout(arms, assign, payload, problems), frame

    def _load(self, reference: str) -> tuple[Model, Frame]:
        entry = self._registry.resolve(reference)
        if entry.reference not in self._models:
            loaded = self._registry.load(entry)
            self._models[entry.reference] = loaded.engine_model(), Frame.from_json(loaded.frame)
        return self._models[entry.reference]

    def _files(self) -> list[Path]:
        return sorted(self._experiments.glob("*.state.json"))

    def _signature(self) -> tuple[object, ...]:
        """Changes whenever a file was replaced: name, inode, time and size of each."""
        paths = [self._registry.folder / self._fleet / "aliases.json", *self._files()]
        found: list[object] = []
        for path in paths:
            with suppress(OSError):  # it may be gone by now
                stat = path.stat()
                found.append((path.name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)
