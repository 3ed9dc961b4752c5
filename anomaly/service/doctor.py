"""What a scorer needs on this machine, checked one by one: a line each, with what to do where something is wrong."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import msgspec

from anomaly import fleet as fleets
from anomaly.engine.cohort_check import why_off
from anomaly.errors import AnomalyError, DataError, PeerError, StateError
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.stored import StoreReader, store_paths
from anomaly.stream.ports import Log
from anomaly.stream.topics import layouts
from anomaly.telemetry.decode import Decoder

PACKAGES = (
    "numpy",
    "numba",
    "onnxruntime",
    "river",
    "scikit-learn",
    "pandas",
    "pyarrow",
    "duckdb",
    "msgspec",
    "kafka-python",
    "crc32c",
    "lz4",
    "typer",
    "structlog",
    "prometheus-client",
)
FREE_BYTES = 1_000_000_000
SAMPLE = 1_000
"""So many of the newest messages are looked at for names that the fleet file lacks."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at; `detail` says what was found, and what to do if it is not `ok`."""

    name: str
    ok: bool
    detail: str


class Place(NamedTuple):
    """What is looked at; `open_log` None: no log was named."""

    config: Path
    models: Path
    folder: Path | None
    open_log: Callable[[], Log] | None


def examine(place: Place) -> Iterator[Check]:
    """All checks, one after the other; what depends on a failed one is left out."""
    yield _checked("python", _python)
    yield _checked("packages", _packages)
    yield _checked("kernel cache", _kernel_cache)
    yield _checked("fleet file", lambda: _fleet(place.config))
    try:
        fleet = fleets.load(place.config)
    except AnomalyError:
        return
    folder = place.folder or Path("run") / fleet.name
    yield _checked("model", lambda: _model(Registry(place.models), fleet))
    yield _checked("disk", lambda: _disk(folder))
    yield _checked("stores", lambda: _stores(folder))
    if place.open_log is not None:
        yield from _log(fleet, place.open_log)


def _checked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, detail=look())
    except AnomalyError as error:
        return Check(name=name, ok=False, detail=str(error))


def _python() -> str:
    if not (3, 11) <= sys.version_info < (3, 14):
        raise DataError(f"{platform.python_version()}: use 3.11 to 3.13")
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _packages() -> str:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise DataError(f"not installed: {', '.join(missing)}; install the product again")
    return ", ".join(found)


def _kernel_cache() -> str:
    from anomaly.compile import cache_folder
    from anomaly.engine import observe

    asked, folder = os.environ.get("NUMBA_CACHE_DIR"), cache_folder(observe.observe)
    if folder is None:
        raise DataError(
            f"{asked or 'none'} cannot be written: kernels are compiled at every start, some seconds; "
            "set NUMBA_CACHE_DIR to a folder that can"
        )
    unused = f"; NUMBA_CACHE_DIR={asked} cannot be written" if asked and not folder.is_relative_to(asked) else ""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror}); set NUMBA_CACHE_DIR to one that can"
        ) from error
    return f"{folder}{unused}"


def _fleet(config: Path) -> str:
    fleet = fleets.load(config)
    return f"{fleet.name}: {len(fleet.signals)} signals, time in {fleet.fleet.time_unit}"


def _model(registry: Registry, fleet: Fleet) -> str:
    entry = registry.resolve(f"{fleet.name}@champion")
    manifest = registry.verify(entry).manifest
    if tuple(fleet.signals) != manifest.signals:
        raise DataError(f"{entry.reference} was trained on other signals than the fleet file has; train again")
    off = why_off(fleet, manifest.checks.cohort)
    return f"{entry.reference} is whole, digest {manifest.digest[:12]}" + (f"; {off}" if off else "")


def _disk(folder: Path) -> str:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        raise DataError(f"{there} cannot be written; choose another --dir")
    if free < FREE_BYTES:
        raise DataError(f"{free / 1e9:.1f} GB are free at {there}; make room: a full disk stops the scorer")
    return f"{free / 1e9:.1f} GB are free at {there}"


def _stores(folder: Path) -> str:
    problems, offsets = [], []
    for path in store_paths(folder):
        try:
            with closing(StoreReader(path)) as store:
                waiting = len(store.pending())
                offsets.append(f"{path.stem} at {store.offset()}" + (f", {waiting} letters wait" if waiting else ""))
        except StateError as error:
            problems.append(str(error))
    if problems:
        raise StateError("; ".join(problems))
    return "; ".join(offsets) or "none yet"


def _log(fleet: Fleet, open_log: Callable[[], Log]) -> Iterator[Check]:
    try:
        log = open_log()
    except AnomalyError as error:
        yield Check(name="log", ok=False, detail=str(error))
        return
    with closing(log):
        yield Check(name="log", ok=True, detail="reachable")
        yield _checked("topics", lambda: _topics(fleet, log))
        yield _checked("names", lambda: _names(fleet, log))


def _topics(fleet: Fleet, log: Log) -> str:
    found = {layout.name: log.topic(layout.name) for layout in layouts(fleet)}
    missing = [name for name, topic in found.items() if topic is None]
    if missing:
        raise PeerError(f"missing: {', '.join(missing)}; `anomaly topics create` makes them")
    return ", ".join(f"{topic.name} ({topic.partitions})" for topic in found.values() if topic is not None)


def _names(fleet: Fleet, log: Log) -> str:
    """Names in the newest messages that the fleet file does not have."""
    name = fleet.topic("telemetry")
    topic = log.topic(name)
    if topic is None:
        raise PeerError(f"{name} is missing; `anomaly topics create` makes it")
    share = SAMPLE // topic.partitions
    newest = {number: max(topic.start[number], end - share) for number, end in enumerate(topic.end)}
    with closing(log.reader(name, newest)) as reader:
        blocks = reader.read_to_end()
    decoder, counted, bad = Decoder(fleet), set[str](), 0
    for block in blocks:
        for place in range(len(block.values)):
            decoded = decoder.decode(block.values[place : place + 1], block.offsets[place : place + 1])
            counted |= set(decoded.unknown)
            bad += len(decoded.failures)
    looked = sum(len(block.values) for block in blocks)
    told = f"; ignored, because the fleet file lacks them: {', '.join(sorted(counted))}" if counted else ""
    return f"{looked} newest messages, {bad} of them unusable{told}"
