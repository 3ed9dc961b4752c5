"""The table of commands: every entry is real, `--help` is quick, errors are one message and an exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anomaly.cli.main import COMMANDS
from anomaly.cli.tree import resolve

HEAVY = ("pandas", "river", "sklearn", "onnxruntime", "numba", "pyarrow", "kafka", "duckdb")


def anomaly(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person does."""
    command = [sys.executable, "-m", "anomaly.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=120)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there_and_explains_itself(name: str) -> None:
    """Each entry can be imported, and has help of its own."""
    assert (resolve(name).help or "").strip()


def test_help_loads_nothing_heavy() -> None:
    """`--help` lists every command without importing what the commands need."""
    code = (
        "import sys; sys.argv = ['anomaly', '--help']\nfrom anomaly.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stderr.strip() == "[]"
    assert all(name in answer.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["bogus"], 2, "No such command"),
        (["train"], 2, "--config"),
        (["train", "--config", "none.toml", "--data", "x.parquet"], 3, "anomaly init"),
        (["models", "verify", "nothing@champion"], 5, "nothing"),
    ],
)
def test_an_error_is_one_message_and_its_exit_code(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    """What a person did wrong is said on stderr without a traceback."""
    answer = anomaly(*arguments, cwd=tmp_path)
    assert answer.returncode == code
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_ctrl_c_ends_with_130_and_one_line(tmp_path: Path) -> None:
    """An interrupt is no error of the program."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "anomaly.cli.main", "simulate", "fleet", "--vehicles", "200000", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_nothing_but_the_standard_library_comes_before_ctrl_c_is_looked_after() -> None:
    """The way in loads no package of others, so that an interrupt during their imports is caught too."""
    code = "import sys; import anomaly.cli.main; print(sorted({'typer', 'click', 'msgspec'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_ctrl_c_while_packages_are_imported_ends_with_130() -> None:
    """An interrupt in the first moments is one line as well."""
    code = (
        "import sys\nclass Interrupt:\n    def find_spec(self, name, *_):\n"
        "        if name == 'typer':\n            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\nfrom anomaly.cli.main import main\nmain()"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (130, "anomaly: interrupted\n")


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit is a command of Linux")
def test_a_full_disk_under_the_demo_ends_with_5(tmp_path: Path) -> None:
    """Where a step that only copies files has no room, a person reads which file, too."""
    command = ["prlimit", "--fsize=500000", "--", sys.executable, "-m", "anomaly.cli.main", "demo"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert answer.returncode == 5
    assert answer.stderr.startswith("anomaly: run/demo/data/readings.parquet cannot be written: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a file of Linux")
def test_output_that_cannot_be_written_ends_with_5() -> None:
    """A redirected result that found no room is not taken for a result."""
    command = [sys.executable, "-m", "anomaly.cli.main", "config", "schema"]
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert answer.returncode == 5
    assert "Traceback" not in answer.stderr
