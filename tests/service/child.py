"""Scorers as real processes that start at once: forked from a server that has everything loaded and compiled."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

from anomaly.engine.warm import warm
from anomaly.errors import AnomalyError
from anomaly.service import logs
from anomaly.service.run import Process, run
from anomaly.service.scorer import Options
from anomaly.service.store import Checkpoint, PartitionStore
from anomaly.stream.embedded import EmbeddedLog
from tests.service.rig import Rig, make_rig

warm()

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.service.child"])


class StateFirst(PartitionStore):
    """A store as it must not be: the offset is written in a transaction of its own, after the rest."""

    def checkpoint(self, checkpoint: Checkpoint) -> tuple[int, int]:
        """First all but the offset, then the offset."""
        written = super().checkpoint(checkpoint._replace(offset=self.offset()))
        _write_offset(self, checkpoint)
        return written


class OffsetFirst(PartitionStore):
    """A store as it must not be: the offset is written in a transaction of its own, before the rest."""

    def checkpoint(self, checkpoint: Checkpoint) -> tuple[int, int]:
        """First the offset, then all of it."""
        _write_offset(self, checkpoint)
        return super().checkpoint(checkpoint)


def _write_offset(store: PartitionStore, checkpoint: Checkpoint) -> None:
    with store._owned() as connection:
        connection.execute("UPDATE owner SET offset = ?", (checkpoint.offset,))


STORES = {"": PartitionStore, "state first": StateFirst, "offset first": OffsetFirst}


def start(rig: Rig, folder: Path, failpoint: str = "", torn: str = "", **changes: object) -> BaseProcess:
    """A scorer of the rig's log that writes to `folder`; it ends at the log's end unless told otherwise."""
    options = Options(folder, "g", stop_at_end=True)._replace(**changes)  # type: ignore[arg-type]
    process = _context.Process(
        target=_main, args=(rig.folder, rig.registry.folder, options, failpoint, torn), daemon=True
    )
    process.start()
    return process


def finish(process: BaseProcess, timeout_s: float = 60.0) -> int:
    """Wait for its end; its exit code, negative for a signal."""
    process.join(timeout_s)
    code = process.exitcode
    if code is None:
        process.kill()
    assert code is not None, "the scorer did not end"
    return code


def score(rig: Rig, folder: Path, failpoint: str = "", torn: str = "", **changes: object) -> int:
    """Run a scorer to its end."""
    return finish(start(rig, folder, failpoint, torn, **changes))


def _main(folder: Path, models: Path, options: Options, failpoint: str, torn: str) -> None:
    if failpoint:
        os.environ["ANOMALY_FAILPOINT"] = failpoint
    options.folder.mkdir(parents=True, exist_ok=True)
    sys.stderr = (options.folder / "stderr.txt").open("a", buffering=1)
    logs.configure("info")
    rig = make_rig(folder, models, (folder / "fleet.toml").read_text())
    log = EmbeddedLog(rig.log_path)
    try:
        sys.exit(run(rig.fleet, log, Process(models, options, 0), STORES[torn]))
    except AnomalyError as error:
        sys.stderr.write(f"anomaly: {error}\n")
        sys.exit(error.exit_code)
