"""`make bench`: every row of the table beside its peer in the same run, then the stage profile.

`python -m benchmarks NAME...` runs single groups. `benchmarks/out/bench.json` holds the same for programs.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import msgspec

from anomaly.service.logs import configure
from benchmarks import (
    audit,
    experiments,
    feedback,
    goals,
    kafka,
    latency,
    loop,
    memory,
    mutation,
    path,
    peers,
    profile,
    recovery,
    scorer,
    shadow,
    simulator,
    start,
)
from benchmarks.goals import GOALS, Row
from benchmarks.world import Worlds

OUT = Path(__file__).parent / "out"
TABLE: dict[str, Callable[[Worlds], list[Row]]] = {
    "path": path.run,
    "peers": peers.run,
    "memory": memory.run,
    "scorer": scorer.run,
    "kafka": kafka.run,
    "latency": latency.run,
    "start": start.run,
    "simulator": simulator.run,
}
NOTES: dict[str, Callable[[Worlds], list[str]]] = {
    "profile": profile.run,
    "recovery": recovery.run,
    "mutation": mutation.run,
    "audit": audit.run,
    "experiments": experiments.run,
    "feedback": feedback.run,
    "loop": loop.run,
    "shadow": shadow.run,
}
LIBRARIES = ("numba", "numpy", "onnxruntime", "pyarrow", "msgspec", "river", "kafka-python", "confluent-kafka")


class Report(msgspec.Struct):
    """What a run found: the machine and versions, a row a line of the table, and what the other groups say."""

    machine: str
    versions: dict[str, str]
    seconds: dict[str, float]
    rows: list[Row]
    notes: dict[str, list[str]]


def main(names: list[str]) -> int:
    """Run the groups named, all if none is; 1 where a mutation survived."""
    unknown = sorted(set(names) - {*TABLE, *NOTES})
    if unknown:
        print(f"{', '.join(unknown)}: no such group; there are {', '.join([*TABLE, *NOTES])}", file=sys.stderr)
        return 2
    configure("error")
    chosen = names or [*TABLE, *NOTES]
    report = Report(machine(), {name: version(name) for name in LIBRARIES}, {}, [], {})
    with tempfile.TemporaryDirectory(prefix="anomaly-bench-") as folder:
        worlds = Worlds(Path(folder))
        for name in chosen:
            _run(name, worlds, report)
    show(report, chosen)
    OUT.mkdir(exist_ok=True)
    (OUT / "bench.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return int(any(line.startswith(mutation.SURVIVED) for line in report.notes.get("mutation", [])))


def _run(name: str, worlds: Worlds, report: Report) -> None:
    print(f"{name} ...", file=sys.stderr, flush=True)
    started_s = time.monotonic()
    if name in TABLE:
        report.rows += TABLE[name](worlds)
    else:
        report.notes[name] = NOTES[name](worlds)
    report.seconds[name] = round(time.monotonic() - started_s, 1)


def show(report: Report, chosen: list[str]) -> None:
    """Print the table, then the rest."""
    print(f"{report.machine}; {', '.join(f'{name} {number}' for name, number in report.versions.items())}")
    if report.rows:
        print(f"\n{goals.table(report.rows)}")
        print("CPU time of one core unless a row says otherwise, medians of repeats in turn; x: a ratio\n")
    if set(chosen) >= set(TABLE) and (absent := [goal.what for key, goal in GOALS.items() if key not in _keys(report)]):
        print("not measured here:", "; ".join(absent))
    for name, lines in report.notes.items():
        print(f"\n{name}:", *lines, sep="\n  ")
    print(f"\nseconds: {', '.join(f'{name} {took:.0f}' for name, took in report.seconds.items())}")


def _keys(report: Report) -> set[str]:
    return {row.key for row in report.rows}


def machine() -> str:
    """Processor, Python and platform."""
    model = "processor unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = f"{len(lines)} cores of {lines[0]}" if lines else model
    return f"{model}, Python {platform.python_version()}, {platform.system()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
