"""What the tests of the service share: a registry that is published once, and a log filled with a small fleet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from anomaly.registry.store import Registry
from anomaly.service.metrics import Metrics
from anomaly.service.scorer import Options, Scorer
from tests.service.rig import FRAME, Rig, fill, make_rig, publish, readings


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models: 1 is champion, 2 shares its frame, 3 has another one."""
    registry = Registry(tmp_path_factory.mktemp("models"))
    publish(registry)
    publish(registry, scale=1.5)
    publish(registry, frame=type(FRAME)(**{**_fields(FRAME), "time_constant": 9}))
    registry.set_alias("bus", "champion", 1, "the first")
    return registry.folder


def _fields(frame: object) -> dict[str, object]:
    return {name: getattr(frame, name) for name in frame.__struct_fields__}  # type: ignore[attr-defined]


@pytest.fixture
def rig(tmp_path: Path, stock: Path) -> Rig:
    """A filled log."""
    made = make_rig(tmp_path, stock)
    fill(made, readings())
    return made


@pytest.fixture(scope="session")
def scored_once(tmp_path_factory: pytest.TempPathFactory, stock: Path) -> Rig:
    """A filled log whose run, in `run`, is scored to the end; for tests that only read it, or copy it."""
    made = make_rig(tmp_path_factory.mktemp("scored"), stock)
    fill(made, readings())
    score_all(made)
    return made


@pytest.fixture
def scored(scored_once: Rig, tmp_path: Path) -> Rig:
    """A copy of that run, for tests that change it."""
    shutil.copytree(scored_once.folder, tmp_path / "bus")
    return scored_once._replace(folder=tmp_path / "bus")


def score_all(rig: Rig) -> None:
    """Score everything that is on the log, in this process."""
    log = rig.log()
    Scorer(rig.fleet, log, rig.registry, Options(rig.folder / "run", "g", stop_at_end=True), Metrics()).run()
    log.close()
