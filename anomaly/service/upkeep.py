"""The files of a partition's logs after their cut: small ones are made one in the background, old ones go.

A file that is replaced stays until the next upkeep, for whoever is reading it. What a crash leaves behind is not
recorded, and deleted at the next start.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anomaly.errors import DataError
from anomaly.feedback.archive import merge_tables
from anomaly.fleet import Fleet
from anomaly.service.rows import DECISIONS, LOGS
from anomaly.service.store import PartitionStore

TOGETHER = 8
"""So many small files of one region and day become one."""
SMALL = 32_000_000
"""Bytes below which a file is small."""


class Crowd(NamedTuple):
    """Small files of one log, region and day, in order of offsets, and the one that is to hold their rows."""

    name: str
    paths: list[str]
    merged: str


class Upkeep:
    """The upkeep of one partition's files below `folder`; `turn` is called after each cut, by the store's owner."""

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        self._folder = folder
        self._fleet = fleet
        self._gone: list[Path] = []
        self._crowds: list[Crowd] = []
        self._merging: threading.Thread | None = None
        self._failure: DataError | None = None

    def turn(self, store: PartitionStore) -> None:
        """Delete what was replaced before, take up what was merged meanwhile, let go what is old, merge some more.

        Raises LostPartition if the partition is somebody else's by now, DataError if there is no room.
        """
        _delete(self._gone)
        self._gone = []
        self._take_up(store)
        for name, old in expired(store.files(), self._folder, self._fleet).items():
            self._replace(store, name, [], old)
        if self._merging is None:
            self._crowds = crowds(store.files(), self._folder)
            if self._crowds:
                self._merging = threading.Thread(target=self._merge, args=(self._crowds,), name="upkeep")
                self._merging.start()

    def wait(self) -> None:
        """Until the merge that runs, if one does, is done."""
        if self._merging is not None:
            self._merging.join()

    def _merge(self, crowds: Sequence[Crowd]) -> None:
        try:
            for name, paths, merged in crowds:
                merge_tables([self._folder / name / path for path in paths], self._folder / name / merged)
        except DataError as error:
            self._failure = error

    def _take_up(self, store: PartitionStore) -> None:
        if self._merging is None or self._merging.is_alive():
            return
        merged, failure = self._crowds, self._failure
        self._crowds, self._merging, self._failure = [], None, None
        if failure is not None:
            store.check_owned()  # a new owner deletes what is not recorded, which looks like a fault of the disk
            raise failure
        files = store.files()
        for crowd in merged:
            if set(crowd.paths) <= set(files.get(crowd.name, [])):
                self._replace(store, crowd.name, [crowd.merged], crowd.paths)
            else:
                self._gone.append(self._folder / crowd.name / crowd.merged)

    def _replace(self, store: PartitionStore, name: str, added: list[str], dropped: list[str]) -> None:
        store.replace_files(name, added, dropped)
        self._gone += [self._folder / name / path for path in dropped]


def crowds(files: dict[str, list[str]], folder: Path) -> list[Crowd]:
    """The oldest small files of each log, region and day that has at least TOGETHER of them."""
    found = []
    for name in LOGS:
        places: dict[str, list[str]] = defaultdict(list)
        for path in files.get(name, []):
            if _size(folder / name / path) < SMALL:
                places[path.rpartition("/")[0]].append(path)
        for place in sorted(places):
            paths = sorted(places[place], key=_first)[:TOGETHER]
            if len(paths) == TOGETHER:
                found.append(Crowd(name, paths, _merged_name(paths)))
    return found


def expired(files: dict[str, list[str]], folder: Path, fleet: Fleet) -> dict[str, list[str]]:
    """By log, the files of days before `[log] keep_days`, and the oldest of those beyond `[log] keep_gb`.

    Age is counted from the newest day with a decision, so that no clock of one vehicle that is far ahead can empty
    an archive. Each partition and log that has files has an even share of `keep_gb`; its newest file always stays.
    """
    newest = max((_day(path) for path in files.get(DECISIONS, [])), default=None)
    found: dict[str, list[str]] = {}
    for name in LOGS:
        old: set[str] = set()
        paths = sorted(files.get(name, []), key=_first, reverse=True)
        if fleet.log.keep_days is not None and newest is not None:
            old |= {path for path in paths if newest - _day(path) > fleet.log.keep_days}
        if fleet.log.keep_gb is not None:
            sizes = np.cumsum([_size(folder / name / path) for path in paths])
            share = fleet.log.keep_gb * 1e9 / fleet.stream.partitions / max(1, sum(map(bool, files.values())))
            old |= {path for path, size in list(zip(paths, sizes, strict=True))[1:] if size > share}
        if old:
            found[name] = sorted(old)
    return found


def _delete(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def _merged_name(paths: Sequence[str]) -> str:
    """That of a cut of all their offsets, with how many merges led to it."""
    owner, _, span = paths[0].removesuffix(".parquet").rpartition("@")
    last = paths[-1].rpartition("@")[2].split("-")[1]
    merges = [int(found.group(1)) for path in paths if (found := re.search(r"c(\d+)\.parquet$", path))]
    epoch = paths[-1].removesuffix(".parquet").rpartition("-")[2].partition("c")[0]
    return f"{owner}@{span.split('-')[0]}-{last}-{epoch}c{max(merges, default=0) + 1}.parquet"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} is recorded and cannot be read: {error.strerror}; bring it back") from error


def _first(path: str) -> int:
    """The first offset that a file holds."""
    return int(path.rpartition("@")[2].split("-")[0])


def _day(path: str) -> int:
    """The number of a file's day since 1970; in cycles, that of its folder."""
    found = re.search(r"day=([^/]+)/", path)
    text = found.group(1) if found else "0"
    return int(text) if text.lstrip("-").isdigit() else int(np.datetime64(text, "D").astype(np.int64))
