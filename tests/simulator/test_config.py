"""A simulation's settings are refused where they make no sense, with the reason."""

from __future__ import annotations

import msgspec
import pytest

from anomaly import settings
from anomaly.errors import ConfigError
from anomaly.simulator import SimulationConfig, SimulationFile


@pytest.mark.parametrize("step", ["30s", "2d", "often"])
def test_impossible_step(step: str) -> None:
    """A step that is no duration between a minute and a day is refused."""
    with pytest.raises(ValueError, match=step):
        SimulationConfig(step=step)


def test_every_problem_of_a_file_is_named() -> None:
    """A simulation file with several mistakes names each of them."""
    with pytest.raises(ConfigError) as caught:
        settings.parse("vehicels = 3\ndays = 0\nfault_share = 2.0", SimulationFile, "simulation.toml")
    text = str(caught.value)
    assert all(word in text for word in ("did you mean `vehicles`", "days", "fault_share", "seed: missing"))


def test_config_without_its_seed() -> None:
    """A simulation file's config is the same settings without the seed."""
    one = SimulationConfig(vehicles=7, late=0.1)
    file = msgspec.convert({**msgspec.to_builtins(one), "seed": 4}, SimulationFile)
    assert file.config == one
