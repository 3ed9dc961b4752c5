"""A physical fleet that fails in known ways. It never imports detectors, and shares no constant with them."""

from anomaly.simulator.config import SimulationConfig, SimulationFile
from anomaly.simulator.files import Written, write
from anomaly.simulator.scenarios import SCENARIOS, scenario
from anomaly.simulator.simulate import Simulation, batch, simulate

__all__ = [
    "SCENARIOS",
    "Simulation",
    "SimulationConfig",
    "SimulationFile",
    "Written",
    "batch",
    "scenario",
    "simulate",
    "write",
]
