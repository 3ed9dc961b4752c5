"""A physical fleet that fails in known ways. It never imports detectors, and shares no constant with them."""

from anomaly.simulator.config import SimulationConfig, SimulationFile
from anomaly.simulator.files import write
from anomaly.simulator.simulate import Simulation, simulate

__all__ = ["Simulation", "SimulationConfig", "SimulationFile", "simulate", "write"]
