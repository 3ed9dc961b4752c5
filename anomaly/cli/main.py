"""The table of all commands, and the way into them.

Nothing but the standard library is imported before Ctrl-C is looked after; a command is imported when it is called.
"""

from __future__ import annotations

import sys
import warnings
from typing import NamedTuple

from anomaly.errors import FULL_DISK, AnomalyError, DataError


class Entry(NamedTuple):
    """Where a command lives, "module:name" of a function or of a typer app, and its line in `--help`."""

    target: str
    help: str


COMMANDS: dict[str, Entry] = {
    "demo": Entry("training.cli.demo:demo", "The whole loop on a sample fleet, in under two minutes."),
    "init": Entry("anomaly.cli.init:init", "Write a fleet file from a history."),
    "config": Entry("anomaly.cli.config:app", "Check, show or describe a fleet file."),
    "train": Entry("training.cli.train:train", "Turn a fleet's history into a model."),
    "backtest": Entry("training.cli.backtest:backtest", "Score a past with a model and say how good it was."),
    "evaluate": Entry("training.cli.evaluate:evaluate", "Judge detection by one protocol, beside what it has to beat."),
    "models": Entry("anomaly.cli.models:app", "List, show, verify, promote and roll back models."),
    "topics": Entry("anomaly.cli.topics:app", "Create or check a fleet's topics."),
    "produce": Entry("anomaly.cli.produce:produce", "Put a file's readings onto topics."),
    "score": Entry("anomaly.cli.score:score", "Score the live stream."),
    "replay": Entry("anomaly.cli.replay:replay", "Score the past again and compare."),
    "vehicle": Entry("anomaly.cli.vehicle:app", "What is known of one vehicle."),
    "state": Entry("anomaly.cli.state:app", "What the state of vehicles takes up, now or to come."),
    "dlq": Entry("anomaly.cli.dlq:app", "List and retry dead letters."),
    "feedback": Entry(
        "anomaly.cli.feedback:app", "Labels, outcomes and what they say: bring in, answer, queue, estimate."
    ),
    "sql": Entry("anomaly.cli.sql:sql", "Ask a run in SQL: decisions, alerts, outcomes, labels, readings."),
    "experiment": Entry("training.cli.experiment:app", "Roll models out to a share of the vehicles, and back."),
    "loop": Entry("training.cli.loop:app", "The autopilot: watch, retrain, gate, try, promote or roll back."),
    "simulate": Entry("training.cli.loop:simulate_app", "Make a physical fleet that fails in known ways."),
    "warmup": Entry("anomaly.cli.warmup:warmup", "Compile the kernels once, so that a start is quick."),
    "doctor": Entry("anomaly.cli.doctor:doctor", "Check this machine, the fleet file and the broker."),
}


def main() -> None:
    """Run the command line; an AnomalyError is one message on stderr and its exit code, Ctrl-C 130, a full disk 5."""
    warnings.formatwarning = lambda message, *_, **__: f"anomaly: warning: {message}\n"
    try:
        from anomaly.cli.tree import app

        app()
    except KeyboardInterrupt:
        print("anomaly: interrupted", file=sys.stderr)
        sys.exit(130)
    except AnomalyError as error:
        print(f"anomaly: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        place = error.filename2 or error.filename or "the output"
        print(f"anomaly: {place} cannot be written: {error.strerror}; make room and start again", file=sys.stderr)
        sys.exit(DataError.exit_code)


if __name__ == "__main__":
    main()
