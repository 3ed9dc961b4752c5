"""Does a test notice when one statement of the kernels' state update is missing? Each is deleted in turn.

`python -m benchmarks mutation` works on copies of the package, without a compiler, two at a time; a survivor is printed
and makes the exit code 1. A statement that only spares time, and cannot be noticed, says so in `SPARES`.
"""

from __future__ import annotations

import ast
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ("observe", "settle", "periods", "happen", "baseline", "quality")
FILES = tuple(f"anomaly/engine/{name}.py" for name in KERNELS)
TESTS = tuple(
    f"tests/engine/test_{name}.py"
    for name in ("happen", "baseline", "quality", "settle", "silence", "engine", "conformal", "mutants", "periods")
)
COPIED = ("anomaly", "tests", "pyproject.toml")
STATE = {"state", "cohorts", "clock", "quantiles"}
SPARES = {"prefetch"}
SURVIVED = "SURVIVED"
MOST_S = 300
"""CPU seconds after which the tests are ended, which they notice: without some statements there is no end."""
WORKERS = 2


class Mutant(NamedTuple):
    """A statement of a file that is left out."""

    file: str
    line: int
    text: str


def run(_worlds: object) -> list[str]:
    """A line for each survivor, then how many there were."""
    every = [mutant for file in FILES for mutant in mutants(file)]
    with tempfile.TemporaryDirectory(prefix="anomaly-mutants-") as name:
        folders = [_copy(Path(name, str(worker))) for worker in range(WORKERS)]
        if _wait(_fork(None, folders[0])):
            return [f"{SURVIVED}: nothing can be said, the tests fail as they are"]
        survivors = _hunt(every, folders)
    found = [f"{SURVIVED}: {mutant.file}:{mutant.line}: {mutant.text}" for mutant in survivors]
    return [*found, f"{len(every)} statements deleted in turn, {len(survivors)} unnoticed"]


def mutants(file: str) -> Iterator[Mutant]:
    """The statements of the kernels in `file` that change state, or call what does."""
    source = (ROOT / file).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and _updates(node):
            yield Mutant(file, node.lineno, " ".join(ast.unparse(node).split()))


def _updates(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return isinstance(node.value.func, ast.Name) and node.value.func.id not in SPARES
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    return any(isinstance(target, ast.Subscript) and _root(target) in STATE for target in targets)


def _root(node: ast.expr) -> str:
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def without(source: str, line: int) -> str:
    """The source with the statement that begins at `line` left out.

    >>> without("if a:\\n    b = 1\\n", 2)
    'if a:\\n    pass'
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name in ("body", "orelse"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [ast.Pass() if getattr(part, "lineno", 0) == line else part for part in block])
    return ast.unparse(ast.fix_missing_locations(tree))


def _copy(folder: Path) -> Path:
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def _hunt(every: list[Mutant], folders: list[Path]) -> list[Mutant]:
    """The mutants that no test noticed; a folder each, one fork a mutant."""
    running: dict[int, tuple[Mutant, Path]] = {}
    free, waiting, survivors = list(folders), list(every), []
    while waiting or running:
        while waiting and free:
            mutant, folder = waiting.pop(0), free.pop()
            running[_fork(mutant, folder)] = (mutant, folder)
        done, status = os.wait()
        mutant, folder = running.pop(done)
        free.append(folder)
        if os.waitstatus_to_exitcode(status) == 0:
            survivors.append(mutant)
    return survivors


def _wait(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _fork(mutant: Mutant | None, folder: Path) -> int:
    """A process that runs the tests on the copy in `folder`, of which `mutant` is left out; answers its id."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_S, MOST_S))
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for file in FILES:
        source = (ROOT / file).read_text(encoding="utf-8")
        (folder / file).write_text(without(source, mutant.line) if mutant and mutant.file == file else source)
    arguments = ["-m", "pytest", "-x", "-q", "-p", "no:xdist", "-p", "no:hypothesispytest", "-W", "ignore", *TESTS]
    os.chdir(folder)
    os.execve(sys.executable, [sys.executable, *arguments], environment)
    raise AssertionError("unreachable")
