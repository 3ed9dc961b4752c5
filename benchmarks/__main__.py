"""`make bench`: every row beside its peer in the same run; a table, and `benchmarks/out/bench.json` for programs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from anomaly.service.logs import configure
from benchmarks import kafka, recovery, scorer
from tests.kafka.broker import unavailable

OUT = Path(__file__).parent / "out"


def main() -> None:
    """Run all, print and write."""
    configure("error")
    reason = unavailable()
    rows = [*scorer.run(), *([] if reason else kafka.run())]
    print(f"{'what':58} {'readings/s':>11}   {'peer':22} {'readings/s':>11} {'ratio':>7}")
    for row in rows:
        print(f"{row.what:58} {row.ours_per_s:11,.0f}   {row.peer:22} {row.peer_per_s:11,.0f} {row.ratio:6.2f}x")
    print("readings a second of CPU of one core, medians of interleaved repeats")
    killed = None if reason else recovery.run()
    print(f"\nkill and recover: {killed or reason or 'no real data'}")
    OUT.mkdir(exist_ok=True)
    (OUT / "bench.json").write_bytes(msgspec.json.encode({"rows": rows, "recovery": killed}))


if __name__ == "__main__":
    main()
