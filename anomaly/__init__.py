"""Finds failing vehicles early: models from history, thresholds that learn, rollouts that undo themselves."""

import logging

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # shown only where a program asked for log lines
