"""Kernels work wherever their cache cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import numpy as np
from anomaly.compile import cache_folder, kernel

@kernel
def twice(x):
    return x * 2.0

@kernel
def half(x):
    return x / 2.0

print(half(twice(np.float64(21.0))), cache_folder(twice))
"""


def run(folder: Path, *before: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Compile and call two kernels of a program in `folder`, the command `before` it."""
    (folder / "program.py").write_text(PROGRAM)
    return subprocess.run(
        [*before, sys.executable, "program.py"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def printed(folder: Path, program: str) -> str:
    """What a `program` prints that is started in `folder`, and has its cache there."""
    (folder / "program.py").write_text(program)
    return started(folder, {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)})


def started(folder: Path, environment: dict[str, str]) -> str:
    """What the program in `folder` prints."""
    command, env = [sys.executable, "program.py"], {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout


def test_an_impossible_cache_folder_warns_once_and_the_kernels_work(tmp_path: Path) -> None:
    """Neither the folder that was asked for, nor one beside the code, nor one of the user can be made."""
    (tmp_path / "__pycache__").write_text("in the way")
    nowhere = dict.fromkeys(("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME"), "/dev/null/x")
    answer = run(tmp_path, **nowhere, PYTHONPATH=os.pathsep.join(sys.path))
    assert (answer.returncode, answer.stdout) == (0, "21.0 None\n")
    assert answer.stderr.count("compiled anew at every start") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit is a command of Linux")
def test_a_full_disk_under_the_cache_warns_once_and_the_kernels_work(tmp_path: Path) -> None:
    """A cache that can be opened but holds nothing costs the time to compile, and nothing else."""
    answer = run(tmp_path, "prlimit", "--fsize=100", "--", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("21.0 ")
    assert answer.stderr.count("compiled anew at every start") == 1
    assert "File too large" in answer.stderr


def test_a_part_is_kept_in_the_cache_of_its_kernel_alone(tmp_path: Path) -> None:
    """What Python never calls is compiled once whatever its constants, into its kernels: no file has it alone."""
    (tmp_path / "program.py").write_text(
        "from anomaly.compile import kernel, part, rare\n\n"
        "@part\ndef twice(x):\n    return x * 2.0\n\n@rare\ndef less(x, by):\n    return x - by\n\n"
        "@kernel\ndef both(x):\n    return less(less(twice(x), 4), 3)\n\n"
        "print(both(7.0), sum(both.stats.cache_hits.values()), len(less.overloads))\n"
    )
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    said = [started(tmp_path, environment) for _ in range(2)]
    assert said == ["7.0 0 1\n", "7.0 1 0\n"]
    assert {path.name.split("-")[0] for path in (tmp_path / "cache").rglob("*.nb?")} == {"program.both"}


def test_a_constant_of_another_file_that_changed_makes_the_kernels_anew(tmp_path: Path) -> None:
    """A kernel's cached code holds what the files beside it say; none of it is used once one of them says otherwise."""
    (tmp_path / "laid.py").write_text("FACTOR = 2.0\n")
    (tmp_path / "program.py").write_text(
        "from anomaly.compile import kernel\nfrom laid import FACTOR\n\n"
        "@kernel\ndef times(x):\n    return x * FACTOR\n\nprint(times(21.0))\n"
    )
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    said = []
    for factor in ("2.0", "3.0"):
        (tmp_path / "laid.py").write_text(f"FACTOR = {factor}\n")
        said.append(started(tmp_path, environment))
    assert said == ["42.0\n", "63.0\n"]


def test_indices_of_arrays_are_taken_as_they_are(tmp_path: Path) -> None:
    """Nothing looks whether an index counts from the end, in kernels alone: what else is compiled does as ever."""
    said = printed(
        tmp_path,
        "import numba, numpy as np\nfrom anomaly.compile import kernel\n\n"
        "def at(x, i):\n    return x[i]\n\n"
        "inside, outside = kernel(at), numba.njit(at)\n"
        "print(inside(np.arange(3.0), 1), outside(np.arange(3.0), -1))\n"
        "print(*('icmp slt' in next(iter(each.inspect_llvm().values())) for each in (inside, outside)))\n",
    )
    assert said == "1.0 2.0\nFalse True\n"


def test_a_kernel_is_called_without_a_look_at_types(tmp_path: Path) -> None:
    """The first call tells the types; then an array of smaller numbers is refused."""
    said = printed(
        tmp_path,
        "import numpy as np\nfrom typing import NamedTuple\nfrom anomaly.compile import direct, kernel\n\n"
        "class Two(NamedTuple):\n    x: np.ndarray\n    y: np.ndarray\n\n"
        "@kernel\ndef add(two, i):\n    return two.x[i] + two.y[i]\n\n"
        "call, ones = direct(add), np.ones(3)\n"
        "print(call(Two(ones, ones), 1), call(Two(ones, 2 * ones), 2), len(add.overloads))\n"
        "try:\n    call(Two(ones, np.ones(3, np.float32)), 1)\nexcept TypeError:\n    print('refused')\n",
    )
    assert said == "2.0 3.0 1\nrefused\n"
