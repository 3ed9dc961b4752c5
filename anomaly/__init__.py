"""Finds failing vehicles early: models from history, thresholds that learn per vehicle, rollouts that undo themselves."""

__version__ = "0.1.0"
