"""What the tests of the service share: a registry that is published once, and a log filled with a small fleet."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly.registry.store import Registry
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
