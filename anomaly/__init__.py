"""Finds failing vehicles early: models from history, thresholds that learn, rollouts that undo themselves."""

__version__ = "0.1.0"
