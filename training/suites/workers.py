"""Two processes for the splits and seeds of a suite."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, Generic, NamedTuple, TypeVar

PROCESSES = 2
Said = Callable[[str], None]
T = TypeVar("T")


class Task(NamedTuple, Generic[T]):
    """A part of a suite that stands alone: `of` is a function of a module, called with `args` in another process."""

    name: str
    of: Callable[..., T]
    args: tuple[Any, ...]


def run(tasks: Sequence[Task[T]], said: Said = lambda _line: None, processes: int = PROCESSES) -> dict[str, T]:
    """Each task's result by its name; `said` hears of each as it ends. What a task raises is raised here."""
    if processes <= 1 or len(tasks) == 1:
        return _in_order(tasks, dict(_here(tasks, said)))
    several = min(processes, len(tasks))
    with ProcessPoolExecutor(several, multiprocessing.get_context("spawn"), _one_thread) as pool:
        waiting = {pool.submit(task.of, *task.args): task.name for task in tasks}
        done = {}
        for future in as_completed(waiting):
            done[waiting[future]] = future.result()
            said(f"{waiting[future]}: done, {len(done)} of {len(tasks)}")
    return _in_order(tasks, done)


def _one_thread() -> None:
    """Before anything loads them: libraries of linear algebra leave the other cores to the other processes. Where each
    took all of them, `anomaly evaluate novel` took up to a tenth longer."""
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _here(tasks: Sequence[Task[T]], said: Said) -> Iterator[tuple[str, T]]:
    for count, task in enumerate(tasks, 1):
        yield task.name, task.of(*task.args)
        said(f"{task.name}: done, {count} of {len(tasks)}")


def _in_order(tasks: Sequence[Task[T]], done: dict[str, T]) -> dict[str, T]:
    return {task.name: done[task.name] for task in tasks}
