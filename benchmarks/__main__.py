"""`make bench`: every row beside its peer in the same run; a table, and `benchmarks/out/bench.json` for programs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from anomaly.service.logs import configure
from benchmarks import engine, kafka, latency, recovery, scorer
from tests.kafka.broker import unavailable

OUT = Path(__file__).parent / "out"


def main() -> None:
    """Run all, print and write."""
    configure("error")
    reason = unavailable()
    with tempfile.TemporaryDirectory(prefix="anomaly-bench-") as folder:
        made = scorer.world(Path(folder))
        alone, waited = engine.run(made), latency.run(made)
        rows = [*scorer.run(made), *([] if reason else kafka.run())]
    print(f"{'what':58} {'readings/s':>11}   {'peer':22} {'readings/s':>11} {'ratio':>7}")
    for row in rows:
        print(f"{row.what:58} {row.ours_per_s:11,.0f}   {row.peer:22} {row.peer_per_s:11,.0f} {row.ratio:6.2f}x")
    print("readings a second of CPU of one core, medians of interleaved repeats\n")
    killed = None if reason else recovery.run()
    results = {"engine alone, batches of 1,024": alone, "reading to alert": waited, "kill and recover": killed}
    for title, result in results.items():
        print(f"{title}: {_plain(result) if result else reason or 'no real data'}")
    OUT.mkdir(exist_ok=True)
    (OUT / "bench.json").write_bytes(msgspec.json.encode({"rows": rows, **results}))


def _plain(result: msgspec.Struct) -> str:
    return ", ".join(f"{name} {getattr(result, name)}" for name in result.__struct_fields__)


if __name__ == "__main__":
    main()
